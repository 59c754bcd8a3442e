#!/usr/bin/env bash
# Train Qwen2.5 with verl's GRPO: ground truth for the labelled rows, the memory for the rest.
#
#     examples/verl_qwen/train.sh 1.5b my-memory data                     or 3b
#     examples/verl_qwen/train.sh 1.5b http://127.0.0.1:8731 data         with a running `memstore serve`
#
# `data` is a folder made by `memstore verl data`. BUDGET (20) and MODE (memory) select its training file. Further
# arguments are passed to verl. VERL=echo prints verl's command line instead of running it.
set -euo pipefail
size=$1 source=$2 data=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
mode=${MODE:-memory} budget=${BUDGET:-20}
train=$data/train_${mode}_${budget}.parquet
[ "$mode" = oracle ] && train=$data/train_oracle.parquet
case $source in http://* | https://*) option=--endpoint ;; *) option=--memory ;; esac

mapfile -t recipe < <(grep -v '^#' "$here/qwen2.5_$size.overrides")
config=$(memstore verl config --verl 0.9.1 --mode "$mode" "$option" "$source" --train "$train" --validation "$data/validation.parquet")
mapfile -t ours <<<"$config"
overrides=("${recipe[@]}" "${ours[@]}" "$@")

memstore verl check "${overrides[@]}"
${VERL:-exec python -m verl.trainer.main_ppo} "${overrides[@]}"

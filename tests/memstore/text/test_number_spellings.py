"""Spellings of numbers and formulas in model output: which have one value, and which must keep two."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer, split_response

NARROW, THIN, NO_BREAK, FIGURE = "\u202f", "\u2009", "\u00a0", "\u2007"

SAME = [
    # Full-width forms and digits of other scripts
    ("42", ["４２", "\\boxed{４２}", "４２．", "٤٢", "४२", "42。", "４２元", "\U0001d7d2\U0001d7d0"]),
    ("(1, 2)", ["（1，2）", "（１，２）", "\\boxed{（1，2）}", "(1，2)"]),
    ("-7", ["－7", "−7", "–7", "‒7", "﹣7", "-７", "\\boxed{－7}", "—7"]),
    ("0.5", ["½", "１/２", "0．5", "1⁄2", "\\boxed{½}"]),
    ("3.5", ["3½", "3 ½", "３½", "3\\frac12"]),
    ("2/3", ["⅔", "2⁄3"]),
    ("300000000", ["3×10⁸", "3 × 10⁸", "3·10⁸", "3⋅10^8", "3 \\times 10^{8}", "3E8", "3e8", "3e+8",
                   "300{,}000{,}000"]),
    ("0.003", ["3×10⁻³", "3e-3", "3 \\times 10^{-3}", "0{,}003"]),
    ("x^2", ["x²", "x^{2}"]), ("x^{10}", ["x¹⁰"]), ("2^n", ["2ⁿ"]), ("a_1", ["a₁", "a_{1}"]),
    # Units
    ("120", ["120 km/h", "120 km per hour", "120km/h", "120 \\text{ km/h}", "120\\,\\mathrm{km/h}", "120 公里/小时",
             "120 \\frac{\\text{km}}{\\text{h}}", "120 mi/hr", "120 m/s", "120\\ \\text{mph}"]),
    ("5", ["5 kg/m^3", "5 kg/m³", "5 m/s^2", "5 m/s²", "5 g/cm^3", "5\\text{ m}", "5\\ \\mathrm{m}",
           "5 \\mathrm{cm}^2",
           "5千克", "5 个", "5个苹果", "5 m^2", "5 m³", "5 Ω", "=5",
            "5\\text{ square units}", "5 W/m^2", "5 N*m", "5 mol/L", "5\\text{ J}",
           "5\\,\\text{m/s}^2", "5人"]),
    ("30000", ["3万", "3万元", "30000元", "3 万"]),
    ("45", ["45°", "45^\\circ", "45^{\\circ}", "45°C", "45℃", "45^{\\circ}\\text{C}", "45^\\circ \\mathrm{F}",
            "45 degrees",
            "45 degrees Celsius", "45度"]),
    ("16\\pi", ["16\\pi \\text{ square units}", "16π", "16\\pi\\text{ cm}^2", "16\\pi \\text{ cm}^{2}",
                "16\\pi square units",
                "16π cm²", "16\\pi\\ \\mathrm{cm^2}", "16.0\\pi"]),
    ("2\\sqrt{3}", ["2\\sqrt{3}\\text{ meters}", "2\\sqrt3 \\text{ cm}", "2√3", "2\\sqrt{3} feet",
                    "2\\sqrt{3}\\,\\text{m}",
                    "2√(3)", "2\\sqrt{3}米"]),
    # Grouped digits and decimal commas
    ("1234567", [f"1{space}234{space}567" for space in (NARROW, THIN, NO_BREAK, FIGURE)]
     + ["1\\,234\\,567", "1\\ 234\\ 567", "1~234~567", "1,234,567", "1{,}234{,}567", "1'234'567", "1’234’567",
        f"1{NARROW}234{NARROW}567 m/s", "1,\\!234,\\!567"]),
    ("3.5", ["3{,}5", "3{,}50"]), ("0.125", ["0{,}125"]), ("1234.5", [f"1{NARROW}234.5", "1,234.5"]),
    # Lists with "and"
    ("19, 46, 82", ["19, 46, \\text{ and } 82", "19, 46 \\text{ and } 82", "19, 46 and 82", "19, 46, and 82",
                    "19、46、82",
                    "19, 46 & 82", "19,46和82"]),
    ("2, 3", ["2 \\text{ and } 3", "2 and 3", "2\\text{and}3", "2和3"]),
    # Bases
    ("1011_2", ["1011_{2}", "1011_{\\text{two}}", "1011_\\text{two}", "1011 base 2", "(1011)_2", "1011₂", "01011_2",
                "1011_{(2)}", "1011_{\\text{base }2}", "1011 (base 2)", "1011 in base two", "1,011_2"]),
    ("1A_{16}", ["1a_{16}", "1A_{\\text{sixteen}}", "1A base 16"]),
    ("12", ["12_{10}", "12_{\\text{ten}}", "12 base 10"]),
    # Upright constants
    ("e^2", ["\\mathrm{e}^2", "\\text{e}^2", "e^{2}", "\\mathrm e^2", "\\mathit{e}^2"]),
    ("2i", ["2\\mathrm{i}", "2\\text{i}", "2 i"]),
    ("1-\\frac{1}{e}", ["1 - \\frac{1}{\\mathrm{e}}", "1-\\dfrac{1}{e}", "1 - \\frac1{\\mathrm e}"]),
    ("e^{i\\pi}", ["\\mathrm{e}^{\\mathrm{i}\\pi}", "e^{iπ}"]),
    # Floats as Python prints them, and repeating decimals
    ("1/12", ["0.0833333333333333", "0.08333333333333333", "\\frac{1}{12}", "0.08\\overline{3}", "0.08333..."]),
    ("1/3", ["0.3333333333333333", "0.33333333333333333333", "0.\\overline{3}", "0.\\bar{3}", "0.\\dot{3}", "0.(3)",
             "0.333...",
             "0.333…", "0.333\\ldots", "0.333\\dots", "0.3\u0305", "0.\\overline{33}", ".\\overline{3}",
             "$0.\\overline{3}$"]),
    ("1/6", ["0.1\\overline{6}", "0.16666666666666666", "0.1666...", "0.1(6)", "0.1\\dot{6}", "0.1\\bar 6"]),
    ("1/7", ["0.\\overline{142857}", "0.\\dot{1}4285\\dot{7}", "0.14285714285714285", "0.142857142857..."]),
    ("0.3", ["0.30000000000000004", "0.3", "0.29999999999999999"]),
    ("-1/3", ["-0.\\overline{3}", "-0.3333333333333333", "-0.333..."]),
    ("100/3", ["33.333333333333336", "33.\\overline{3}", "33.333..."]),
    ("1", ["0.\\overline{9}", "0.999..."]),
    # Marks behind an answer
    ("73", ["73 ✅", "**73** ✅", "73** ✅", "73 ✓", "73 🎉", "73 ✔️", "73∎", "73 \\blacksquare", "73\\checkmark",
            "73 ✅.",
            "\\boxed{73} 🎉", "\\text{The answer is } 73", "The answer is: 73", "73\\phantom{0}"]),
    ("\\emptyset", ["\\varnothing", "∅", "\\{\\}", "\\{ \\}", "\\boxed{\\varnothing}", "$\\emptyset$"]),
    ("14-i", ["14.0 + -1.0i", "14 - 1i", "14.0-1.0i", "14 + -i", "14 − i"]),
    ("2+i", ["2 + 1i", "2.0+1.0i", "2 - -i"]),
    ("2.5x", ["2.50x", "2.5 x"]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "answers"), SAME, ids=[value for value, _ in SAME])
def test_spellings_with_one_value(value: str, answers: list[str]) -> None:
    found = {answer: canonical_answer(answer, "math", "").value for answer in [value, *answers]}
    assert found == dict.fromkeys(found, value)


DIFFERENT = [
    ("1 2", "12"), ("1 234 567", "1234567"),  # ordinary spaces may separate numbers
    ("3,5", "3.5"),  # a list
    ("1{,}234", "1.234"),
    ("1'23", "123"),
    ("5 m", "5"), ("5 h", "5"), ("5m^2", "5"), ("5 x^2", "5"), ("5个半", "5"), ("5个多", "5"),
     ("3 x", "3"), ("5m", "5"),  # may be variables
    ("5 squared", "5"), ("5 cubed", "5"), ("2 dozen", "2"), ("3个半", "3"), ("3半", "3"),
    ("3\\text{ ft }2\\text{ in}", "32"), ("3\\text{ ft }2\\text{ in}", "3"), ("3 feet 2 inches", "3"),
    ("x\\text{ is even}", "x"), ("x > 3 \\text{ or } x < 1", "x > 3"),
    ("16\\pi", "16"), ("2\\sqrt{3}", "2"), ("2\\text{i}", "2"), ("5\\text{e}", "5"),
    ("84 sofas and 88 chairs", "84, 88"), ("3 and 1/2", "3, 1/2"), ("3 and 1/2", "3, 0.5"), ("2 or 3", "2"),
    ("2 and 3", "3 and 2"), ("2 and 3", "23"), ("2 and 3", "5"),
    ("1011_2", "1011_3"), ("213_7", "213_8"), ("1011_2", "1011"), ("1011_2", "11"), ("1A_{16}", "1A_{12}"), ("10_2",
    "2"),
    ("x_1", "x_2"), ("x_1", "x"), ("a_{10}", "a"), ("C_2", "C"), ("\\log_2 8", "\\log_3 8"),
    ("e^2", "\\epsilon^2"), ("\\mathrm{d}x", "x"), ("2i", "2"), ("1i", "1"), ("x_1i", "x_i"), ("21i", "2i"),
    ("0.33", "1/3"), ("0.333", "1/3"), ("0.3333333", "1/3"), ("0.33...", "1/3"), ("0.3", "0.\\overline{3}"),
    ("0.\\overline{3}", "0.\\overline{6}"), ("0.1\\overline{6}", "0.\\overline{16}"), ("0.1(6)", "0.16"),
    ("2.718281828...", "2.7\\overline{1828}"), ("1.4142135623730951", "\\sqrt{2}"), ("3.141592653589793", "\\pi"),
    ("0.1234567890123", "0.1234567890124"), ("0.30000000000001", "0.3"), ("1e-15", "2e-15"), ("1e-15", "0"),
    ("0.000000000001", "0"), ("1e-12", "1e-11"), ("1.23e-9", "4.56e-9"), ("10^{-12}", "10^{-11}"),
    ("\\frac{1}{2004!}", "\\frac{1}{2006!}"), ("x²", "x2"), ("10⁸", "108"), ("x₁", "x1"), ("½", "12"), ("3½", "31/2"),
    ("14-i", "14+i"), ("2 - -3x", "2-3x"), ("0.5(3)", "0.53"), ("7!", "7"), ("73%", "0.73"),
    ("\\{\\}", "0"), ("\\{0\\}", "\\emptyset"), ("\\boxed{?}", "0"), ("-7", "7"), ("3—5", "35"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "other"), DIFFERENT)
def test_answers_that_stay_two(answer: str, other: str) -> None:
    assert canonical_answer(answer, "math", "").value != canonical_answer(other, "math", "").value


PLACEHOLDERS = [
    "...", "…", "?", "", " ", "\\phantom{0}", "\\ldots", "\\cdots", "\\dots", "\\square", "\\Box", "\\quad", "___",
    "\\_\\_",
    "answer", "your answer", "Answer", "\\text{answer}", "\\text{?}", "\\text{your answer here}", "final answer",
    "\\,",
    "[answer]", "??",
    "\\text{final answer}", "*", "\\hphantom{12}",
]  # fmt: skip


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_in_a_box_is_not_an_answer(placeholder: str) -> None:
    box = f"\\boxed{{{placeholder}}}"
    for response in (
        f"The answer is \\boxed{{12}}. I put it in {box} as you asked.",
        f"I will use {box}.\n3 * 4 = 12\n#### 12",
        f"Fill in \\frac{{{box}}}{{14}}.\nThe answer is 12.",
        f"\\boxed{{12}}\n\n{box}",
        f"Write {box}: 3 * 4 is 12",
    ):
        assert canonical_answer(split_response(response, "math").answer, "math", "").value == "12", response


@pytest.mark.parametrize("content", ["x", "12", "0", "\\emptyset", "A", "\\text{yes}", "\\pi", "x_{answer}"])
def test_other_contents_of_a_box_are_answers(content: str) -> None:
    assert split_response(f"It was \\boxed{{5}}, no: \\boxed{{{content}}}", "math").answer == content


RESPONSES = [
    ("答案是４２。", "42"), ("所以答案为 \\boxed{42元}", "42"), ("答案：42", "42"), ("因此，答案是 42 元。", "42"),
    ("故答案为：-3", "-3"), ("綜上，答案是½。", "0.5"), ("정답은 42", "42"), ("答えは42。", "42"),
    (f"In all it is 1{NARROW}234{NARROW}567 people.", "1234567"),
    ('{"reasoning": "3 * 4", "answer": 12}', "12"), ('{"answer": "12"}', "12"),
    ('```json\n{"answer": "\\\\frac{1}{2}"}\n```', "0.5"),
    ("Left: 437 + 468 = 905\n\nFinal Answer: **73** ✅", "73"), ("The answer is 3×10⁻³.", "0.003"),
    ("The final answer is \\boxed{\\text{The answer is } 12}", "12"), ("The answer is 120 km/h.", "120"),
    ("The numbers are \\boxed{19, 46 \\text{ and } 82}.", "19, 46, 82"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "value"), RESPONSES)
def test_numbers_in_responses(response: str, value: str) -> None:
    assert canonical_answer(split_response(response, "math").answer, "math", "").value == value

"""The inspector: pages in the browser over an open memory or a snapshot.

source.py     what pages read: an open memory or a snapshot, behind one interface
views/        one module a page: functions that read a source and return plain dataclasses, without HTTP
pages/        one module a page: its routes, which call a view in a thread and render its template
site.py       what the routes of all pages share: source, threads, templates, errors as pages
app.py        the ASGI application of all pages
security.py   login by the service's token, CSRF tokens, headers, the check of the host
recurring.py  values that take seconds, computed in the background
desk.py       labelling by several people at once; label_queue.py, leases.py and label_effects.py are parts of it
jobs.py       work of the reward model in the background: explaining.py and rescoring.py
disagreements.py  where models, labels, votes and steps disagree
texts.py      texts of models as paragraphs, mathematics and code
charts.py     bars and lines as SVG; evaluation_charts.py, those of an evaluation
export.py     a page as one file
serve.py      a server of the pages alone
templates/    Jinja2, with autoescape
static/       one style sheet, one script, and KaTeX

A page works without JavaScript; the script only improves it. It is read-only for snapshots.

A new page is a view, a module of routes that is named in `app.py`, and a template; tests/rl/inspector opens it in a
browser once its path is in the list of paths there. What takes longer than a page may is a `Recurring` value.
"""

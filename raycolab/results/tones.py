"""Colours and pieces that the report's page and the notebook's panels share: light, dark, wide and narrow.

Tokens are custom properties; `PIECES` and `NARROW_PIECES` are rules, one a line, for what `markup` and `pairs_map`
write. A page takes them as they are; a panel, which is a guest on somebody's page, through `scoped`.
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "NARROW_PIECES", "PIECES", "STATES", "scoped"]

STATES = ("complete", "pruned", "failed", "lost", "cancelled", "running")
"""The states of trials that have a colour."""

LIGHT = (
    "--page:#f6f7f9;--card:#fff;--text:#1b2430;--soft:#5b6777;--line:#dfe3e9;--accent:#2463c4;--strong:#2463c4;"
    "--first:#d9480f;--faint:#8a97a8;--tint:36,99,196;--complete:#3b82d6;--pruned:#a98be0;--failed:#d64545;"
    "--lost:#e39a2d;--cancelled:#9aa5b1;--running:#35a07a;--good:#1c7a57;--warn:#9a5b00;--bad:#b92d2d"
)
DARK = (
    "--page:#12161c;--card:#1a2029;--text:#e3e8ef;--soft:#98a5b5;--line:#2d3642;--accent:#74a9f5;--strong:#74a9f5;"
    "--first:#ffa25c;--faint:#66758a;--tint:91,155,234;--complete:#5b9bea;--pruned:#b79cf0;--failed:#ee6b6b;"
    "--lost:#f0b14f;--cancelled:#6d7a89;--running:#4fc098;--good:#5fd0a6;--warn:#f0b95f;--bad:#ff8a8a"
)

PIECES = """\
.note{color:var(--soft);font-size:.85rem}
.scroll{overflow-x:auto}
code,pre,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.85rem}
table{border-collapse:collapse;background:var(--card);font-size:.9rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:6px 12px;border:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
th{font-weight:600}
thead th{color:var(--soft)}
td.number,th.number{text-align:right}
td.code{white-space:normal;min-width:200px;overflow-wrap:anywhere}
th.code{font:inherit;font-weight:600}
.map{min-width:0;border-collapse:separate;border-spacing:2px;background:none}
.map th,.map td{border:0}
.map th span{display:block;width:max-content;max-width:120px;white-space:normal;overflow-wrap:anywhere}
.map tbody th span{max-width:200px}
.map thead th{padding:2px 10px;font-weight:400;vertical-align:bottom}
.map tbody th{padding:5px 10px 5px 0;vertical-align:middle;font-weight:400;color:var(--soft)}
.map td{padding:5px 10px 7px;min-width:76px;border-radius:5px;position:relative;overflow:hidden;vertical-align:middle}
.map td{background:rgba(var(--tint),var(--heat,.05));color:var(--text);line-height:1.25}
.map td b{font-weight:400}
.map td.top b{font-weight:700}
.map td small{display:block;font-size:.75rem;color:var(--soft)}
.map td small em{font-style:normal;color:var(--bad)}
.map td small em:not(:first-child){margin-left:5px}
.map td i{position:absolute;left:0;bottom:0;height:3px;background:var(--complete)}
.map.dense td,.map.dense thead th{min-width:0;padding:3px 6px 6px;font-size:.8rem}
"""
NARROW_PIECES = """\
th,td{padding:6px 9px}
.map td,.map thead th{min-width:60px;padding:5px 7px 7px}
.map th span{max-width:108px}
.map tbody th span{max-width:100px}
.map td small em:not(:first-child){display:block;margin:0}
.stacks thead{display:none}
.stacks,.stacks tbody{display:block}
.stacks tr{display:block;border:1px solid var(--line);padding:5px 0}
.stacks tr+tr{border-top:0}
.stacks td{display:grid;grid-template-columns:100px 1fr;border:0;padding:2px 10px;text-align:left!important}
.stacks td{white-space:normal;overflow-wrap:anywhere;min-width:0}
.stacks td::before{content:attr(data-head);color:var(--soft);font-family:system-ui,"DejaVu Sans",sans-serif}
"""


def scoped(rules: str, scope: str) -> str:
    """`rules`, one a line, for what lies within `scope` alone."""
    found = []
    for line in rules.splitlines():
        selectors, brace, body = line.partition("{")
        found.append(",".join(f"{scope} {each}" for each in selectors.split(",")) + brace + body)
    return "\n".join(found) + "\n"

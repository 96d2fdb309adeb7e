"""Colours and pieces that the report's page and the notebook's panels share: light, dark, wide and narrow.

Tokens are custom properties; `PIECES` and `NARROW_PIECES` are rules, one a line, for what `markup` and `pairs_map`
write. A page takes them as they are; a panel, which is a guest on somebody's page, through `scoped`.
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "NARROW_PIECES", "PIECES", "SCOPE", "STATES", "STYLE", "scoped"]

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


SCOPE = ":is(.raycolab,#rc)"

_DARK_PAGES = ("body[data-jp-theme-light=false]", "html[theme=dark]", "body.vscode-dark", "body[data-theme=dark]")
_LIGHT_PAGES = ("body[data-jp-theme-light=true]", "html[theme]:not([theme=dark])", "body.vscode-light")

_RULES = (
    """\
*{box-sizing:border-box}
p,ul,ol,pre{margin:0;padding:0;border:0;background:none;color:inherit}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 12px;margin:0 0 8px}
.title{font-size:1.15rem;font-weight:650;overflow-wrap:anywhere}
.count{font-size:1.15rem;font-variant-numeric:tabular-nums;margin-left:auto;white-space:nowrap}
.state{font-size:.8rem;padding:1px 9px;border-radius:9px;border:1px solid;white-space:nowrap;color:var(--soft)}
.good{color:var(--good)}
.warn{color:var(--warn)}
.bad{color:var(--bad)}
.soft{color:var(--soft)}
.bar{display:flex;height:12px;border-radius:6px;overflow:hidden;background:var(--line);margin:2px 0 6px}
.bar i{display:block;flex:none;min-width:1px}
.legend{font-size:.85rem;color:var(--soft);font-variant-numeric:tabular-nums}
.legend span{display:inline-block;margin-right:16px;white-space:nowrap}
.legend i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px}
.facts{display:flex;flex-wrap:wrap;gap:8px 28px;margin:10px 0 0}
.facts div{min-width:0;overflow-wrap:anywhere}
.facts span{display:block;font-size:.8rem;color:var(--soft)}
.facts b{font-weight:600}
.parts{display:grid;gap:0 28px;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));align-items:start}
.part{margin:14px 0 0;min-width:0}
.part.whole{grid-column:1/-1}
.name{font-size:.85rem;font-weight:600;margin:0 0 5px}
.name small{font-weight:400;color:var(--soft);font-size:.8rem}
.told{border-left:3px solid var(--warn);padding:2px 0 2px 10px;margin:10px 0 0;overflow-wrap:anywhere}
.told.bad{border-color:var(--bad);color:var(--text)}
.told.soft{border-color:var(--line)}
"""
    + PIECES
    + """\
table{margin:0;table-layout:auto;border-spacing:0;font-size:.87rem;line-height:1.4;background:none}
tr,tr:hover,tbody tr,tbody tr:hover{background:none}
th,td{max-width:none;padding:4px 10px;border:0;border-bottom:1px solid var(--line);vertical-align:baseline}
.plain th:first-child,.plain td:first-child{padding-left:0}
.plain tr:last-child td{border-bottom:0}
.plain thead th{font-weight:400;font-size:.8rem;padding-top:0}
.map{border-spacing:2px}
.dot::before{content:"";display:inline-block;width:8px;height:8px;border-radius:4px;background:currentColor;margin-right:7px}
td b{font-weight:600;color:var(--text)}
td.wide{width:99%;min-width:130px;max-width:0;overflow:hidden;text-overflow:ellipsis}
.flows td:first-child b{display:block;width:max-content;max-width:190px;white-space:normal;overflow-wrap:anywhere}
.lane i{display:inline-block;height:9px;border-radius:3px;background:var(--complete)}
.lane i{vertical-align:middle;margin-right:7px}
.lane{min-width:110px}
.causes{list-style:none}
.causes li{display:flex;gap:10px;margin:0 0 4px;overflow-wrap:anywhere}
.causes b{flex:none;min-width:2.2em;text-align:right;font-variant-numeric:tabular-nums;color:var(--bad);font-weight:600}
.address{border:1px solid var(--line);border-radius:6px;background:var(--page);padding:8px 10px;margin:0 0 5px;
white-space:pre-wrap;overflow-wrap:anywhere;word-break:break-all;user-select:all;-webkit-user-select:all;line-height:1.45}
.allowance{max-width:520px;height:8px;border-radius:4px}
.events{list-style:none;font-size:.87rem}
.events li{display:flex;gap:12px;margin:0 0 2px;overflow-wrap:anywhere}
.events span{flex:none;color:var(--soft);font-variant-numeric:tabular-nums}
code{background:none;border:0;padding:0;color:inherit}
.steps{font-size:.87rem;color:var(--soft)}
.steps code{color:var(--text);overflow-wrap:anywhere}
"""
)
_NARROW = (
    NARROW_PIECES
    + """\
.flows,.flows tbody{display:block}
.flows thead{display:none}
.flows tr{display:flex;flex-wrap:wrap;gap:0 14px;padding:4px 0;border-bottom:1px solid var(--line)}
.flows tr:last-child{border-bottom:0}
.flows td{border:0;padding:0;min-width:0;white-space:normal;overflow-wrap:anywhere}
.flows td[data-head]::before{content:attr(data-head) " ";color:var(--soft);font-size:.8rem}
.flows td.none{display:none}
.flows td:first-child{flex:0 0 42%}
.flows td:first-child b{width:auto;max-width:none}
.flows td.wide{flex:0 0 100%;width:auto;max-width:none;padding-left:15px;white-space:nowrap}
.facts{gap:8px 20px}
"""
)


def _joined(rules: str) -> str:
    """Rules that were broken into several lines, one a line."""
    return rules.replace(",\n", ",").replace(";\n", ";")


def _on(pages: tuple[str, ...], tokens: str) -> str:
    return ",".join(f"{page} .raycolab" for page in pages) + f"{{{tokens}}}\n"


STYLE = (
    f".raycolab{{{LIGHT}}}\n@media (prefers-color-scheme:dark){{.raycolab{{{DARK}}}}}\n"
    + _on(_DARK_PAGES, DARK)
    + _on(_LIGHT_PAGES, LIGHT)
    + f"{SCOPE}{{container-type:inline-size;background:var(--card);color:var(--text);border:1px solid var(--line);"
    "border-radius:8px;padding:12px 16px 14px;margin:2px 0;max-width:1180px;text-align:left;"
    'font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",sans-serif}\n'
    + scoped(_joined(_RULES), SCOPE)
    + "@container (max-width:560px){\n"
    + scoped(_joined(_NARROW), SCOPE)
    + "}\n"
    + f"{SCOPE} i.pending{{background:var(--line)}}\n"
    + "".join(f"{SCOPE} i.{kind}{{background:var(--{kind})}}\n" for kind in STATES)
)

"""How a panel looks on somebody else's page: a notebook's, light or dark, from a phone's width to a desk's.

Every rule begins with `SCOPE`, so nothing of the page changes; the id that no element has makes the rules stronger than
those a notebook has for all tables. Light and dark follow the reader's system, and where a notebook says which it is,
the notebook: `data-jp-theme-light` is JupyterLab's, `theme` Colab's, `vscode-dark` Visual Studio Code's.
"""

from __future__ import annotations

from raycolab.results.tones import DARK, LIGHT, NARROW_PIECES, PIECES, STATES, scoped

__all__ = ["SCOPE", "STYLE"]

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

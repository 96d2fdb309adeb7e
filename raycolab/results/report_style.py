"""How the report looks: one style sheet, light and dark, from a phone's width to a desk's."""

from __future__ import annotations

from raycolab.results.tones import DARK, LIGHT, NARROW_PIECES, PIECES, STATES

__all__ = ["STYLE"]

STYLE = (
    f":root{{color-scheme:light dark;{LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}\n"
    + """\
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1200px;margin:0 auto;padding:20px 16px 60px}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .3em}
h3{font-size:.95rem;margin:.9em 0 .3em;overflow-wrap:anywhere}
h3 small{font-weight:400;color:var(--soft)}
p{margin:.4em 0}.axis-text,.legend{color:var(--soft);font-size:.85rem}
.tally{font-variant-numeric:tabular-nums;white-space:pre-wrap;color:var(--soft)}
header .best{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--first);border-radius:8px;
padding:10px 14px;margin:12px 0}
header .best b{font-size:1.15rem}
"""
    + PIECES
    + """\
code{overflow-wrap:anywhere}
dl{display:flex;flex-wrap:wrap;gap:6px 26px;margin:12px 0 0}dt{color:var(--soft);font-size:.8rem}dd{margin:0}
.grid-of{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--least)),1fr));margin-top:10px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:4px 12px 8px;min-width:0}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg path{fill:none}
svg .grid{stroke:var(--line)}svg .axis{stroke:var(--line);stroke-width:1.5}
svg .dot{stroke:var(--faint);stroke-width:4;stroke-linecap:round;opacity:.8}
svg .best{stroke:var(--accent);stroke-width:2}
svg .faint{stroke:var(--faint);opacity:.22}svg .strong{stroke:var(--strong);stroke-width:1.3;opacity:.75}
svg .first{stroke:var(--first);stroke-width:2.4}
.curves path{stroke-linecap:round;stroke-linejoin:round}.curves .grid{stroke-linecap:butt}
.curves .complete{opacity:.55}.curves .pruned{stroke-dasharray:1 3.2;opacity:.8}
.curves .cut{stroke:var(--pruned);stroke-width:4.5}
svg .name{fill:var(--text);font-weight:600}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:3.5px;stroke-linejoin:round}
.lanes{background:var(--card);border:1px solid var(--line);border-radius:4px}
.share{display:grid;grid-template-columns:minmax(70px,42%) 1fr 44px;gap:8px;align-items:center;
font-size:.85rem;margin:5px 0}
.share span:first-child{overflow-wrap:anywhere}.share span:last-child{text-align:right}
.share i{background:var(--line);border-radius:3px;height:10px;display:block}
.share b{background:var(--accent);border-radius:3px;height:10px;display:block;min-width:2px}
.axis-text{display:flex;justify-content:space-between;margin:4px 0 0}
.legend span{margin-right:16px;white-space:nowrap}
.legend .first{background:var(--first)}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px}
details{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:8px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:6px;padding:10px 12px;
margin:.4em 0}
"""
    + "@media (max-width:600px){\n"
    + NARROW_PIECES
    + "}\n"
    + "".join(f".lanes .{kind}{{fill:var(--{kind})}}.legend .{kind}{{background:var(--{kind})}}\n" for kind in STATES)
    + "".join(f".curves .{kind}{{stroke:var(--{kind})}}\n" for kind in STATES)
)

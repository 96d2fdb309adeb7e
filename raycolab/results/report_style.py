"""How the report looks: one style sheet, light and dark, from a phone's width to a desk's."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1b2430;--soft:#5b6777;--line:#dfe3e9;--accent:#2463c4;
--strong:#2463c4;--first:#d9480f;--faint:#8a97a8;--top:#e4eefc;--complete:#3b82d6;--pruned:#a98be0;--failed:#d64545;
--lost:#e39a2d;--cancelled:#9aa5b1;--running:#35a07a}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#1a2029;--text:#e3e8ef;--soft:#98a5b5;--line:#2d3642;
--accent:#74a9f5;--strong:#74a9f5;--first:#ffa25c;--faint:#66758a;--top:#22395c;--complete:#5b9bea;--pruned:#b79cf0;
--failed:#ee6b6b;--lost:#f0b14f;--cancelled:#6d7a89;--running:#4fc098}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1200px;margin:0 auto;padding:20px 16px 60px}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .3em}
h3{font-size:.95rem;margin:.9em 0 .3em;overflow-wrap:anywhere}
h3 small{font-weight:400;color:var(--soft)}
p{margin:.4em 0}.note,.axis-text,.legend{color:var(--soft);font-size:.85rem}
.tally{font-variant-numeric:tabular-nums;white-space:pre-wrap;color:var(--soft)}
header .best{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--first);border-radius:8px;
padding:10px 14px;margin:12px 0}
header .best b{font-size:1.15rem}
code,pre,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.85rem}
code{overflow-wrap:anywhere}
dl{display:flex;flex-wrap:wrap;gap:6px 26px;margin:12px 0 0}dt{color:var(--soft);font-size:.8rem}dd{margin:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;background:var(--card);font-size:.9rem;font-variant-numeric:tabular-nums;min-width:100%}
.pivot{min-width:0}
th,td{padding:6px 12px;border:1px solid var(--line);text-align:left;vertical-align:top;white-space:nowrap}
th{font-weight:600}thead th{color:var(--soft)}
td.number,th.number,.pivot td,.pivot thead th{text-align:right}
td.code{white-space:normal;min-width:200px;overflow-wrap:anywhere}
th.code{font:inherit;font-weight:600}
@media (max-width:600px){th,td{padding:6px 9px}
.stacks thead{display:none}.stacks,.stacks tbody{display:block}
.stacks tr{display:block;border:1px solid var(--line);padding:5px 0}.stacks tr+tr{border-top:0}
.stacks td{display:grid;grid-template-columns:100px 1fr;border:0;padding:2px 10px;text-align:left!important;
white-space:normal;overflow-wrap:anywhere;min-width:0}
.stacks td::before{content:attr(data-head);color:var(--soft);font-family:system-ui,"DejaVu Sans",sans-serif}}
td.top{background:var(--top);font-weight:600}
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
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px}
details{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:8px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:6px;padding:10px 12px;
margin:.4em 0}
""" + "".join(
    f".lanes .{kind}{{fill:var(--{kind})}}.legend .{kind}{{background:var(--{kind})}}\n"
    for kind in ("complete", "pruned", "failed", "lost", "cancelled", "running")
)

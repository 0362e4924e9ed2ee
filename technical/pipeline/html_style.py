"""The style sheet of the reports: light and dark, phone to wide screen, and paper."""

from __future__ import annotations

# Colours of the series are Okabe and Ito's (https://jfly.uni-koeln.de/color/), darkened on white and lightened on
# black until they stand out at 3:1; dashes and markers tell the series apart without colour.
_LIGHT = """--ink: #1b2330; --soft: #566171; --line: #d5dbe3; --faint: #e9edf2; --page: #f7f8f9; --card: #ffffff;
  --mark: #0b6e4f; --hr: #4b5563; --bicubic: #b4500b; --dsr: #0a5fa5; --s0: #0a5fa5; --s1: #b4500b; --s2: #0b7a5b;
  --s3: #a13a78; --s4: #7a6400; --s5: #4b5563; --warn: #8a5a00; --warn-page: #fff6e0;"""
_DARK = """--ink: #e6eaf0; --soft: #a4afbd; --line: #37414f; --faint: #262e39; --page: #12161b; --card: #1a2028;
  --mark: #5fd3a6; --hr: #b9c2cf; --bicubic: #ffa24d; --dsr: #6cb6ff; --s0: #6cb6ff; --s1: #ffa24d; --s2: #4fd1a5;
  --s3: #f08cc4; --s4: #e5c84a; --s5: #b9c2cf; --warn: #f3c463; --warn-page: #2b2413;"""

_TEXT = """
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0.4rem 0 1rem; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.6rem 0 0.6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.4rem; } h4 { font-size: 0.95rem; margin: 1.2rem 0 0.2rem; }
h1, h2, h3, h4, p, dd, figcaption { overflow-wrap: anywhere; }
p, dl, .notes { max-width: 46rem; }
p.lead { font-size: 1.15rem; line-height: 1.5; } p.lead strong { font-weight: 650; }
.soft, figcaption { color: var(--soft); font-size: 0.9rem; }
p.notice { border-left: 4px solid var(--warn); background: var(--warn-page); padding: 0.6rem 0.9rem;
  border-radius: 0 6px 6px 0; font-size: 0.95rem; }
a { color: var(--dsr); } a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 2px solid
  var(--dsr); outline-offset: 2px; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 0.7rem;
  font-size: 0.85rem; } code { font-size: 0.85em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure > img { max-width: 100%; height: auto; border: 1px solid var(--line);
  background: #fff; }
details { margin: 0.15rem 0; } summary { cursor: pointer; color: var(--soft); font-size: 0.95rem;
  padding: 0.25rem 0; } summary:hover { color: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem; font-size: 0.93rem; margin: 0.6rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; } dd code { word-break: break-all; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.5rem; } }
"""

_TABLES = """
.table { overflow-x: auto; width: fit-content; max-width: 100%; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--faint); padding: 0.34rem 0.7rem; text-align: right; vertical-align: top;
  white-space: nowrap; line-height: 1.35; }
thead th { white-space: normal; min-width: 4.6rem; max-width: 7rem; vertical-align: bottom; color: var(--soft);
  font-weight: 600; border-bottom-color: var(--line); }
tbody:last-child tr:last-child > * { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); z-index: 1;
  font-weight: 500; min-width: 5rem; max-width: 11rem; white-space: normal; border-right: 1px solid var(--faint); }
th.group:first-child { font-weight: 650; padding-top: 0.7rem; position: static; max-width: none; border-right: 0; }
th.group span { position: sticky; left: 0.7rem; white-space: nowrap; }
tbody:first-of-type th.group { padding-top: 0.4rem; }
td .interval { display: block; color: var(--soft); font-size: 0.8rem; }
td.marked { font-weight: 650; } td.marked .interval { font-weight: 400; } td.best { color: var(--mark);
  font-weight: 600; }
.quiet { color: var(--soft); } sup { line-height: 0; font-size: 0.72em; } sup.note { color: var(--dsr);
  margin-left: 1px; }
.notes { font-size: 0.86rem; color: var(--soft); padding-left: 1.4rem; margin: 0.2rem 0; }
.tables { display: flex; flex-wrap: wrap; gap: 0 1.6rem; align-items: flex-start; }
.tables > * { min-width: 0; max-width: 100%; }
td[colspan] { text-align: left; }
@media (max-width: 40rem) { th, td { padding: 0.34rem 0.5rem; } th:first-child, td:first-child { min-width: 6.7rem;
  max-width: 7rem; }
  td .interval { font-size: 0.76rem; } }
.table-figure > figcaption { font-weight: 600; color: var(--ink); margin-bottom: 0.35rem; }
.table-figure details { margin: 0.2rem 0; } .table-figure summary { font-size: 0.85rem; }
"""

_CHARTS = """
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19.5rem), 1fr)); gap: 1rem;
  margin: 1rem 0; }
.chart { margin: 0; padding: 0.8rem 0.8rem 0.6rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; max-width: 36rem; min-width: 0; break-inside: avoid; }
.chart > h4 { margin: 0 0 0.2rem; color: var(--ink); } .chart figcaption { font-size: 0.84rem; line-height: 1.4; }
.chart svg.plot { display: block; width: 100%; height: auto; overflow: visible; }
.plot text { fill: var(--soft); font-size: 14px; font-family: inherit; } .plot text.ref { fill: var(--ink); }
.plot .grid { stroke: var(--faint); stroke-width: 1; } .plot .frame { stroke: var(--line); stroke-width: 1.2;
  fill: none; }
.plot .ref { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 3 3; } .plot text.ref { stroke: none; }
.plot .line, .legend .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.plot .band { stroke: none; opacity: 0.16; } .plot .fill { opacity: 0.3; stroke: none; }
.plot .mark, .legend .mark { stroke: var(--card); stroke-width: 1; } .plot .whisker { stroke-width: 2; fill: none; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; padding: 0; margin: 0 0 0.2rem;
  font-size: 0.86rem; } .legend li { display: flex; align-items: center; gap: 0.35rem; min-width: 0;
  overflow-wrap: anywhere; }
.legend svg { flex: none; width: 30px; height: 14px; }
"""
_SERIES = "".join(
    f".ink-{name} {{ stroke: var(--{name}); }} .paint-{name} {{ fill: var(--{name}); }}\n"
    for name in ("hr", "bicubic", "dsr", "s0", "s1", "s2", "s3", "s4", "s5")
)

_CARDS = """
.cards { display: flex; flex-wrap: wrap; gap: 0.7rem; margin: 1rem 0; }
.card { flex: 1 1 8.5rem; max-width: 15rem; padding: 0.7rem 0.9rem; background: var(--card);
  border: 1px solid var(--line);
  border-top: 4px solid var(--soft); border-radius: 8px; font-variant-numeric: tabular-nums; }
.card span { display: block; color: var(--soft); font-size: 0.86rem; } .card b { font-size: 1.5rem;
  line-height: 1.3; }
@media (max-width: 40rem) { .cards { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0.5rem; }
  .card { padding: 0.5rem 0.55rem; } .card b { font-size: 1.12rem; } .card span { font-size: 0.78rem; } }
.card-hr { border-top-color: var(--hr); } .card-bicubic { border-top-color: var(--bicubic); }
.card-dsr { border-top-color: var(--dsr); }
"""

_PICTURES = """
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 0.9rem;
  margin: 0.8rem 0 1.4rem; }
.faces-row { margin: 0; padding: 0.7rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  width: fit-content; max-width: 100%; break-inside: avoid; }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 9rem)); gap: 0.5rem; list-style: none; padding: 0;
  margin: 0; } .tiles.two { grid-template-columns: repeat(2, minmax(0, 9rem)); }
.tiles img { width: 100%; height: auto; aspect-ratio: 1; display: block; border-radius: 4px; background: var(--faint); }
.tiles img.pixels { image-rendering: pixelated; }
.tiles span { display: block; font-size: 0.82rem; line-height: 1.35; text-align: center; }
.tiles .missing { aspect-ratio: 1; display: grid; place-items: center; padding: 0.3rem;
  border: 1px dashed var(--warn);
  border-radius: 4px; color: var(--warn); font-size: 0.75rem; overflow-wrap: anywhere; overflow: hidden; }
.tiles span { overflow-wrap: anywhere; }
.faces.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.faces.pairs .faces-row { width: auto; }
.faces-row figcaption { font-size: 0.82rem; margin-top: 0.35rem; }
"""

_FRAME = """
main > section:first-of-type > h2 { margin-top: 0.6rem; }
nav { font-size: 0.92rem; margin: 0 0 1.4rem; } nav p { display: none; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: 0.4rem; padding: 0; margin: 0; }
nav a { display: block; padding: 0.15rem 0.6rem; border: 1px solid var(--line); border-radius: 999px;
  background: var(--card);
  text-decoration: none; color: var(--ink); } nav a:hover { border-color: var(--soft); }
@media (min-width: 75rem) {
  body.wide { display: grid; grid-template: "nav header" auto "nav main" 1fr / 13rem minmax(0, 1fr); gap: 0 2.4rem;
    max-width: 92rem; padding: 1.6rem 2rem; } .wide header { grid-area: header; } .wide main { grid-area: main; }
  .wide nav { grid-area: nav; }
  .wide nav { position: sticky; top: 1.6rem; align-self: start; margin: 0.6rem 0 0; max-height: calc(100vh - 3.2rem);
    overflow-y: auto; } .wide nav p { display: block; margin: 0 0 0.4rem; color: var(--soft); font-weight: 600; }
  .wide nav ol { display: block; } .wide nav a { border: 0; background: none; border-left: 2px solid var(--line);
    border-radius: 0; padding: 0.25rem 0.8rem; }
}
@media print {
  :root { color-scheme: light; LIGHT }
  body, body.wide { display: block; max-width: none; padding: 0; background: #fff; font-size: 10pt; }
  nav { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; } .table { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: 1.5pt 4pt; } td .interval { font-size: 6.5pt; }
  thead th, th:first-child, td:first-child { min-width: 0; }
  h2, h3, h4 { break-after: avoid; } .charts { grid-template-columns: 1fr 1fr; } tr { break-inside: avoid; }
}
"""

STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}\n"
    + _TEXT
    + _TABLES
    + _CHARTS
    + _SERIES
    + _CARDS
    + _PICTURES
    + _FRAME.replace("LIGHT", _LIGHT)
)

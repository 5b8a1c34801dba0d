# SPDX-License-Identifier: Apache-2.0
"""The style sheet of the page: light, dark and print; colours that colour-blind readers can tell.

The series colours are those of Okabe and Ito, darkened or lightened for contrast.
"""

CSS = """
:root { color-scheme: light dark;
  --ink: #1c2430; --soft: #5a6675; --line: #d9dfe7; --paper: #ffffff; --card: #f5f7fa;
  --good: #0a7a4b; --bad: #b4380f; --mild: #5a6675;
  --c0: #0064a8; --c1: #c2500a; --c2: #00805c; --c3: #a3457d; --c4: #8a6d00; --c5: #3f3f46; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e7ebf0; --soft: #a3afbd; --line: #364150; --paper: #12171e; --card: #1b222c;
  --good: #4fd39a; --bad: #ff9468; --mild: #a3afbd;
  --c0: #62b5f2; --c1: #ff9d4d; --c2: #3fd0a5; --c3: #e79ac6; --c4: #e6cf5a; --c5: #c9ced6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.85rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .25rem; }
p, ul { margin: .4rem 0 .8rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.summary { background: var(--card); border-left: 4px solid var(--c0); border-radius: 0 6px 6px 0;
  padding: .9rem 1.1rem; margin: 1.25rem 0; }
.summary p { margin: 0 0 .5rem; } .summary p:last-child { margin: 0; }
.summary p:first-child { font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .875rem; border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 400; min-width: 8.5rem; }
tr.section th { font-weight: 600; padding-top: 1.1rem; }
td small { display: block; color: var(--soft); font-size: .8rem; white-space: nowrap; }
.best { font-weight: 700; } .best small { font-weight: 400; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.flag.red { color: var(--bad); } .flag.amber { color: var(--c4); }
.flag.note { color: var(--mild); font-weight: 400; }
.unclear, .untested, .missing { color: var(--mild); }
.prose td, .prose tbody th { font-size: .875rem; overflow-wrap: anywhere; }
figure { margin: 0; } figure + figure { margin-top: 1rem; }
.grid { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.grid.narrow { grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.scroll + .grid { margin-top: 1.5rem; }
.grid figure + figure { margin-top: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.legend svg { width: 2.2rem; height: .7rem; margin-right: .4rem; vertical-align: middle; }
.chart { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.chart text { fill: var(--soft); } .chart text.strong { fill: var(--ink); font-weight: 600; }
.chart text.value { fill: var(--ink); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .diagonal { stroke: var(--soft); stroke-dasharray: 2 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.whisker { stroke-width: 2; } .bar { opacity: .65; } .range { stroke-width: 1; opacity: .6; }
.chart text.small { font-size: 10px; fill: var(--ink); }
.heat.positive { fill: var(--c1); } .heat.negative { fill: var(--c0); }
.frame { fill: none; stroke: var(--ink); stroke-width: 2; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
.line.c1 { stroke-dasharray: 7 4; } .line.c2 { stroke-dasharray: 2 4; }
.line.c3 { stroke-dasharray: 10 4 2 4; } .line.c4 { stroke-dasharray: 4 3; }
.line.c5 { stroke-dasharray: 1 5; }
.dot.c0, .bar.c0, text.c0 { fill: var(--c0); } .dot.c1, .bar.c1, text.c1 { fill: var(--c1); }
.dot.c2, .bar.c2, text.c2 { fill: var(--c2); } .dot.c3, .bar.c3, text.c3 { fill: var(--c3); }
.dot.c4, .bar.c4, text.c4 { fill: var(--c4); } .dot.c5, .bar.c5, text.c5 { fill: var(--c5); }
.band.c0 { fill: var(--c0); } .band.c1 { fill: var(--c1); } .band.c2 { fill: var(--c2); }
.band.c3 { fill: var(--c3); } .band.c4 { fill: var(--c4); } .band.c5 { fill: var(--c5); }
.band { fill-opacity: .14; } .dot, .bar, .band, .chart text { stroke: none; }
.chart text.label.c0 { fill: var(--c0); } .chart text.label.c1 { fill: var(--c1); }
.chart text.label.c2 { fill: var(--c2); } .chart text.label.c3 { fill: var(--c3); }
.chart text.label.c4 { fill: var(--c4); } .chart text.label.c5 { fill: var(--c5); }
.strip { max-width: 100%; height: auto; image-rendering: pixelated; display: block;
  border-radius: 4px; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--c0); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; }
@media (max-width: 40rem) { body { font-size: 15px; padding: 1rem; } .chart { font-size: 15px; } }
@media print { body { max-width: none; font-size: 11pt; padding: 0; }
  figure, tr, .summary { break-inside: avoid; } h2 { break-after: avoid; }
  .grid { grid-template-columns: 1fr 1fr; } }
"""

"""The style of the report page: one text, light and dark, on screen and on paper."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

_LIGHT: Final = """
--paper:#fff;--ink:#1b2330;--soft:#5a6675;--line:#dde3ea;--panel:#f5f7fa;
--exposed:#a8201a;--exposed-soft:#fbe9e7;--unknown:#8a5a00;--unknown-soft:#fdf3dc;
--held:#6b3fa0;--held-soft:#f1eaf9;--not_held:#1f6f4a;--not_held-soft:#e6f3ec;
--calm:#b9cad9;--gap:#c3c9d1;--inner:#b3261e;--outer:#f6c9c5;--band:#f4c95d33;--band-edge:#c79a2a;--key:#1b2330;--seal:#2456a6;
--advisory:#c7791a;--hold:#1b2330;--lift:#1f6f4a
""".strip()

STYLE: Final = """
:root{color-scheme:light dark;LIGHT}
@media(prefers-color-scheme:dark){:root{
--paper:#12161c;--ink:#e6eaf0;--soft:#9aa6b5;--line:#2b333e;--panel:#1a2028;
--exposed:#ff8a80;--exposed-soft:#3a1d1c;--unknown:#f2bf5c;--unknown-soft:#34290f;
--held:#c7a6f2;--held-soft:#2a2038;--not_held:#77cfa3;--not_held-soft:#15302a;
--calm:#3d5368;--gap:#525c68;--inner:#e5534b;--outer:#6a2b28;--band:#f4c95d1f;--band-edge:#8a6f2a;--key:#e6eaf0;--seal:#7fb0ff;
--advisory:#f0a24a;--hold:#e6eaf0;--lift:#77cfa3}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1180px;margin:0 auto;padding:40px 28px 64px}
h1{font-size:34px;line-height:1.2;margin:4px 0 10px;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:21px;line-height:1.3;margin:0 0 14px}
h3{font-size:16.5px;line-height:1.4;margin:0 0 6px}
p{margin:0 0 10px;max-width:78ch}
.eyebrow{color:var(--soft);font-weight:600;margin:0}
.about,small{color:var(--soft)}.about{max-width:none}
section{margin-top:44px}
.counts{list-style:none;display:flex;flex-wrap:wrap;gap:12px;margin:22px 0 0;padding:0}
.counts li{display:flex;align-items:baseline;gap:10px;padding:10px 18px 10px 14px;border-radius:8px;border-left:5px solid}
.counts b{font-size:28px;line-height:1.1}
.counts .sign{margin-right:5px;font-weight:700}
.exposed{color:var(--exposed);background:var(--exposed-soft);border-color:var(--exposed)}
.unknown{color:var(--unknown);background:var(--unknown-soft);border-color:var(--unknown)}
.held{color:var(--held);background:var(--held-soft);border-color:var(--held)}
.not_held{color:var(--not_held);background:var(--not_held-soft);border-color:var(--not_held)}
.plain{color:var(--ink);background:var(--panel);border-color:var(--line)}
.badge{display:inline-block;padding:1px 10px 1px 8px;border-radius:99px;border:1px solid;font-size:13.5px;font-weight:600;line-height:1.55;white-space:nowrap}
.badge .sign{margin-right:5px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14.5px;line-height:1.45}
th{text-align:left;font-weight:600;color:var(--soft);font-size:13px;padding:0 18px 6px 0;border-bottom:1px solid var(--line);white-space:nowrap}
td{vertical-align:top;padding:9px 18px 9px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere;min-width:84px}
th:last-child,td:last-child{padding-right:0}
.verdicts td:first-child{min-width:236px}.verdicts td:nth-child(2){min-width:176px}.verdicts td:last-child{min-width:96px;max-width:170px}
.name{font-weight:600;display:block}small{font-size:13px;display:block}
td ul{margin:0;padding:0;list-style:none}td li+li{margin-top:6px}
ul{padding-left:20px;margin:0 0 10px}
.entries{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px;color:var(--soft);overflow-wrap:anywhere}
article{padding:20px 0 18px;border-top:1px solid var(--line)}
article table{font-size:13.5px}article td{padding-top:6px;padding-bottom:6px}article td:nth-child(-n+3){min-width:128px}
article .badge{margin-left:6px;font-size:12.5px}
.number{display:inline-block;min-width:30px;color:var(--soft);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:10px 0 0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0}
footer{margin-top:52px;padding-top:18px;border-top:1px solid var(--line);color:var(--soft);font-size:13.5px}
figure{margin:0}figcaption{margin-top:12px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:6px 22px;padding:0;margin:0;font-size:13px;color:var(--soft)}
.legend li{display:flex;align-items:center;gap:7px}
.timeline{display:block;width:100%;min-width:860px;height:auto;font-family:inherit}
.timeline text{font-size:11.5px;fill:var(--ink)}
.timeline .axis{fill:var(--soft)}.timeline .strong{font-weight:600;fill:var(--ink)}
.timeline .host{font-size:13px;font-weight:600}
.timeline .verdict{font-size:11.5px;background:none}
.timeline .verdict.unknown{fill:var(--unknown)}.timeline .verdict.held{fill:var(--held)}.timeline .verdict.not_held{fill:var(--not_held)}
.timeline .entry{font-size:10.5px;fill:var(--soft)}
.timeline .inside{font-size:10.5px;font-weight:600}.timeline .inside.held{fill:#fff}.timeline .inside.unknown{fill:var(--ink);paint-order:stroke;stroke:var(--unknown-soft);stroke-width:4px}
.grid{stroke:var(--line);stroke-width:1}.lane-line{stroke:var(--line);stroke-width:1}
.band{fill:var(--band)}.band-edge{stroke:var(--band-edge);stroke-width:1;stroke-dasharray:2 3}
rect.observed{fill:var(--calm)}
rect.unobserved{fill:url(#hatch);stroke:var(--gap);stroke-width:.7}
rect.unknown{fill:url(#hatch-unknown);stroke:var(--unknown);stroke-width:1.2}
rect.inner{fill:var(--inner)}rect.outer{fill:var(--outer);stroke:var(--inner);stroke-width:1.2;stroke-dasharray:4 2}
.hatch-ground{fill:var(--paper)}.hatch-line{stroke:var(--gap);stroke-width:3}
.hatch-unknown-ground{fill:var(--unknown-soft)}.hatch-unknown-line{stroke:var(--unknown);stroke-width:2}
.glyph-key line{stroke:var(--key);stroke-width:1.6}.glyph-key circle{fill:var(--key)}
.glyph-sealed{fill:var(--paper);stroke:var(--seal);stroke-width:2}
.glyph-refused{stroke:var(--exposed);stroke-width:2.2;fill:none}
.glyph-window{fill:none;stroke:var(--band-edge);stroke-width:1.5}
.glyph-advisory{fill:var(--advisory)}.glyph-hold{fill:var(--hold)}.glyph-lift{fill:var(--paper);stroke:var(--lift);stroke-width:1.8}
.frame{fill:none;stroke:var(--ink);stroke-width:1.2}
@media(max-width:700px){main{padding:24px 16px 48px}h1{font-size:26px}dl{grid-template-columns:1fr}}
@media print{:root{LIGHT;--ink:#000;--soft:#444;--line:#ccc}
body{font-size:12px}main{max-width:none;padding:0}h1{font-size:24px}section{margin-top:26px}.scroll{overflow:visible}.timeline{min-width:0}
table,article table,small,dl,.legend,.entries,.badge,article .badge,footer{font-size:10px}th{font-size:9.5px}td,article td{min-width:0!important;padding-right:8px}th{padding-right:8px;white-space:normal}tr,figure,h2,h3{break-inside:avoid}h2,h3{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip().replace("LIGHT", _LIGHT)
"""The whole style sheet. On paper the light colours hold, whatever the screen had."""

"""How a report looks: light and dark by the system's preference, the same colours as the studio's page."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--paper:#fcfbf9;--raised:#fff;--rail:#f3f1ec;--ink:#1d2127;--soft:#5a616b;--line:#e2dfd8;
--strong:#8a8f98;--accent:#175c9e;--warn:#8a4b00;--wash:#fdf1dc;--bad:#a3301c;--good:#146c43;--c0:#175c9e;--c1:#c05f00;
--c2:#0a8a66;--c3:#b0508a;--c4:#7a6400;--c5:#2f9fd6;--right:23,92,158;--wrong:208,106,0}
@media (prefers-color-scheme:dark){:root{--paper:#16191e;--raised:#1e2228;--rail:#111418;--ink:#e6e8eb;--soft:#a0a7b1;
--line:#2c323a;--strong:#6c7480;--accent:#6fb4f0;--warn:#f3b95f;--wash:#33291a;--bad:#ff9481;--good:#6fd3a4;--c0:#6fb4f0;
--c1:#f0a04b;--c2:#4fc7a0;--c3:#e29ac6;--c4:#d8c155;--c5:#9ad7f5;--right:90,165,235;--wrong:240,160,75}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:56px}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0 auto;max-width:1180px;padding:28px 24px 48px;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;font-weight:650;letter-spacing:-.01em}
h2{font-size:18px;margin:0 0 10px;font-weight:650}
h3{font-size:14px;margin:0;font-weight:650}
p{margin:0 0 8px;max-width:78ch}
a{color:var(--accent)}
.kind{margin:0;color:var(--soft);font-size:12px;letter-spacing:.08em;text-transform:uppercase}
.lead{color:var(--soft);margin:0 0 14px}
.skip{position:absolute;left:-999px}.skip:focus{position:static}
nav{position:sticky;top:0;z-index:2;background:var(--paper);border-bottom:1px solid var(--line);margin:14px 0 22px}
nav ul{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:0;padding:8px 0}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
section{margin:0 0 34px}
main:focus{outline:none}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
.state{display:inline-block;border:1px solid currentcolor;border-radius:99px;padding:0 10px;font-size:13px}
.state.finished{color:var(--good)}.state.crashed,.state.unreadable{color:var(--bad)}
.state.interrupted,.state.paused,.state.elsewhere,.state.waiting{color:var(--warn)}.state.running{color:var(--accent)}
.notes{background:var(--wash);border-radius:8px;padding:10px 14px;margin:0 0 16px;max-width:none}
.notes p{margin:0;color:var(--warn);max-width:none}.notes p+p{margin-top:4px}
.missing{color:var(--soft);font-style:italic}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:0 0 18px;padding:0}
.tiles div{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tiles dt{color:var(--soft);font-size:12px}
.tiles dd{margin:0;font-size:20px;font-weight:600;line-height:1.3}
.tiles dd small{display:block;font-size:12px;font-weight:400;color:var(--soft)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px;align-items:start}
.pairs{grid-template-columns:repeat(auto-fit,minmax(min(100%,540px),1fr))}
.card{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin:0;min-width:0}
.wide+.grid,.wide+p,.wide+.card,.card+.card,.grid+.card,.card+.grid,p+.card,.card+p,.grid+p{margin-top:14px}.grid>.card{margin-top:0}
figcaption{color:var(--soft);font-size:13px;margin:0 0 6px}
svg{display:block;width:100%;max-width:680px;height:auto}svg.broad{max-width:900px}
svg text{fill:var(--soft);font-size:11px}svg .name{fill:var(--ink);font-size:12px}
.axis{stroke:var(--strong);stroke-width:1;fill:none}.rule{stroke:var(--line);stroke-width:1;fill:none}
.mark{stroke:var(--warn);stroke-width:1;stroke-dasharray:2 2}.flag{fill:var(--warn)}
.ideal{stroke:var(--strong);stroke-width:1;stroke-dasharray:4 3}
.plain{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.thin{fill:none;stroke-width:1;stroke-opacity:.55}
.thick{fill:none;stroke-width:2.6}
.dots{fill:none;stroke-width:5;stroke-linecap:round}.specks{fill:none;stroke-width:3.4;stroke-linecap:round;stroke-opacity:.6}
.cross{fill:none;stroke-width:1.4}
.dash{stroke-dasharray:7 3}.dot{stroke-dasharray:2 4}
.k0{stroke:var(--c0)}.k1{stroke:var(--c1)}.k2{stroke:var(--c2)}.k3{stroke:var(--c3)}.k4{stroke:var(--c4)}
.k5{stroke:var(--c5)}.k6{stroke:var(--strong)}
.b0{fill:var(--c0)}.b1{fill:var(--c1)}.b6{fill:var(--strong)}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;margin:0 0 4px;padding:0;font-size:13px}
.legend svg{display:inline-block;width:30px;height:10px;vertical-align:middle;margin-right:6px}
.d1{fill-opacity:.22}.d2{fill-opacity:.4}.d3{fill-opacity:.6}.d4{fill-opacity:.8}.d5{fill-opacity:1}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:13px}
th,td{padding:4px 12px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500;white-space:nowrap;vertical-align:bottom}
tbody th{font-weight:500;min-width:7ch}.num{text-align:right;white-space:nowrap}
.best th,.best td{font-weight:700}
.matrix td,.matrix th{border:0;padding:5px 8px;text-align:right;white-space:nowrap;max-width:16ch;overflow:hidden;
text-overflow:ellipsis}
.matrix td{min-width:38px;border:1px solid var(--paper)}
.r1{background:rgba(var(--right),.08)}.r2{background:rgba(var(--right),.16)}.r3{background:rgba(var(--right),.26)}
.r4{background:rgba(var(--right),.38)}.w1{background:rgba(var(--wrong),.12)}.w2{background:rgba(var(--wrong),.22)}
.w3{background:rgba(var(--wrong),.34)}.w4{background:rgba(var(--wrong),.5)}
.suspects{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;list-style:none;margin:0;padding:0}
.suspects li{background:var(--raised);border:1px solid var(--line);border-radius:8px;overflow:hidden;font-size:13px}
.shot{display:flex;align-items:center;justify-content:center;height:132px;background:var(--rail);color:var(--soft)}
.shot img{max-width:112px;max-height:112px}.shot img.small{width:112px;height:112px;object-fit:contain;
image-rendering:pixelated}
.said{padding:8px 10px}.said p{margin:0}.said .soft{font-size:12px}
.soft{color:var(--soft)}
details{margin-top:8px}summary{cursor:pointer;color:var(--accent);font-size:13px}
details[open]>summary{margin-bottom:6px}
pre{font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--rail);border-radius:8px;
padding:12px 14px;margin:0;overflow:auto;max-height:520px;overflow-wrap:normal}
code{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{color:var(--soft);font-size:12px;border-top:1px solid var(--line);padding-top:12px}
@media (max-width:520px){svg text{font-size:16px}body{padding:16px 14px 32px}nav{position:static}}
@media print{nav,.skip{display:none}.card,.suspects li{break-inside:avoid}pre{max-height:none;white-space:pre-wrap}}
"""

"""The style and the script that stand inside every page."""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1b1b1b; --soft: #5c5c5c;
        --line: #d4d4d4; --band: #f3f5f7; --right: #0072b2; --wrong: #c14a00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #141414; --text: #e6e6e6; --soft: #a6a6a6; --line: #3c3c3c;
          --band: #1f2226; --right: #56b4e9; --wrong: #ff9a4d; }
  /* Plots are drawn on white: turned, white is the page's black, hues stay. */
  figure.plot img { filter: invert(.92) hue-rotate(180deg); }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text);
       background: var(--page); max-width: 80rem; margin: 0 auto; padding: 1rem 1.25rem;
       overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .6rem 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.subtitle, figcaption, .notes { color: var(--soft); }
.subtitle { margin: 0; }
a { color: var(--right); }
.answer { font-size: 1.2rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        font-size: .92rem; overflow-wrap: normal; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
         border-bottom: 1px solid var(--line); }
thead th { border-bottom-width: 2px; vertical-align: bottom; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
            text-align: inherit; cursor: pointer; }
th button::after { content: "\\2195"; color: var(--soft); padding-left: .25em; }
th[aria-sort=ascending] button::after { content: "\\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\2193"; color: inherit; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.figures { display: grid; gap: 0 2.5rem;
           grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; }
figure img { max-width: 100%; max-height: 60rem; height: auto; background: #fff; }
figcaption { font-size: .9rem; }
.confusion { display: block; max-width: 100%; height: auto; font-size: 17px; }
.confusion text { fill: var(--soft); }
.confusion .frame { fill: none; stroke: var(--line); pointer-events: none; }
.confusion .band { fill: transparent; }
.confusion .band:hover { fill: var(--band); }
.confusion .right { fill: var(--right); }
.confusion .wrong { fill: var(--wrong); }
.confusion .right:hover, .confusion .wrong:hover { stroke: var(--text); }
.key { columns: 11rem; column-gap: 1.5rem; font-size: .82rem; line-height: 1.35;
       padding-left: 2.2rem; }
.key span { color: var(--soft); white-space: nowrap; }
.warnings { border-left: 4px solid var(--wrong); padding: .1rem 1rem;
            background: var(--band); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr;
     gap: .2rem 1rem; font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 60rem) { table { font-size: .85rem; }
                            th, td { padding-right: .6rem; } }
@media (max-width: 32rem) { dl { grid-template-columns: 1fr; }
                            dd { margin: 0 0 .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
               .scroll { overflow: visible; } tr { break-inside: avoid; } }
"""

SCRIPT = """
// A click on a heading sorts the table: numbers downwards first, words upwards.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    const number = text => {
      const value = parseFloat(text.replaceAll(",", ""));
      return Number.isNaN(value) ? -Infinity : value;
    };
    const compare = (a, b) => {
      const [one, other] = [a, b].map(row => row.cells[column].textContent);
      return numeric ? number(one) - number(other) || 0
                     : one.localeCompare(other, "en", {numeric: true});
    };
    button.onclick = () => {
      const sorted = head.ariaSort;
      const down = sorted ? sorted === "ascending" : numeric;
      heads.forEach(other => other.ariaSort = null);
      head.ariaSort = down ? "descending" : "ascending";
      const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b));
      body.append(...rows);
    };
  });
}
"""

// Results as one page without scripts or network: for each row and baseline a bar on a logarithmic axis from 1 to the median of
// ours / baseline, a dot for each round, and a mark where the gate is. Colours follow what the reader's system prefers.
import { digits, failures, gateText, nanoseconds } from "./report.mjs";

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #d9dee5; --page: #ffffff; --band: #f5f7f9;
  --met: #2a7f9e; --missed: #c4512d; --plain: #8a94a3; --gate: #1c2430; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #343c48; --page: #14181e; --band: #1a2027;
  --met: #4aa8c9; --missed: #ee7a52; --plain: #77818f; --gate: #f2f4f7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 48px; max-width: 1120px; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, "Open Sans", sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 36px 0 8px; } p { margin: 4px 0; } .soft { color: var(--soft); }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 12px 0 0; } .key span { display: inline-flex; align-items: center; gap: 7px; }
.swatch { width: 22px; height: 10px; border-radius: 2px; } .swatch.gate { width: 2px; height: 16px; background: var(--gate); border-radius: 0; }
.swatch.dot { width: 6px; height: 6px; border-radius: 50%; background: var(--ink); }
.line, .axis { display: grid; grid-template-columns: 130px minmax(200px, 1fr) 76px 128px 72px 62px; gap: 0 12px; align-items: center; }
.row { padding: 9px 0; border-top: 1px solid var(--line); } .row h3 { font: 600 14px/1.4 ui-monospace, monospace; margin: 0; display: inline; }
.head { margin-bottom: 3px; } .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.axis { position: sticky; top: 0; z-index: 1; background: var(--page); padding: 6px 0; font-size: 12px; color: var(--soft); }
.ticks { position: relative; height: 18px; } .ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.plot { position: relative; height: 22px; background: var(--band); } .plot i { position: absolute; display: block; }
.grid { top: 0; bottom: 0; width: 1px; background: var(--line); } .grid.one { background: var(--soft); }
.bar { top: 6px; bottom: 6px; border-radius: 2px; } .gate { top: 0; bottom: 0; width: 3px; margin-left: -1px; background: var(--gate); }
.dot { top: 9px; width: 4px; height: 4px; margin-left: -2px; border-radius: 50%; background: var(--ink); opacity: .45; }
.is-met { background: var(--met); } .is-missed { background: var(--missed); } .is-plain { background: var(--plain); }
.verdict { font-weight: 600; } .verdict.missed { color: var(--missed); } .verdict.met { color: var(--met); } .wide { grid-column: 2 / -1; }
.note { font-size: 12.5px; color: var(--soft); } footer { margin-top: 28px; color: var(--soft); }
@media (max-width: 760px) { .line, .axis { grid-template-columns: 1fr 62px 66px 56px; } .line .plot, .axis .ticks { grid-column: 1 / -1; order: 9; }
  .line .spread, .axis .name, .axis .number { display: none; } .wide { grid-column: 1 / -1; } }
`;

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;" };
const escape = (text) => String(text).replace(/[&<>"]/g, (each) => ENTITIES[each]);

/** The axis: where a ratio stands, in percent of its width. It reaches over all medians, quartiles and gates, 0.1 and 10. */
class Axis {
  constructor(results) {
    const shown = results.flatMap(({ baselines }) => baselines)
      .flatMap(({ ratio, gate }) => [ratio?.q1, ratio?.q3, ratio?.median, gate?.limit]).filter((value) => value > 0);
    this.first = Math.floor(Math.log10(Math.min(0.1, ...shown)));
    this.last = Math.ceil(Math.log10(Math.max(10, ...shown)));
  }

  at(ratio) {
    const place = (Math.log10(ratio) - this.first) / (this.last - this.first);
    return Math.round(Math.min(1, Math.max(0, place)) * 10000) / 100;
  }

  get decades() {
    return Array.from({ length: this.last - this.first + 1 }, (_, n) => 10 ** (this.first + n));
  }
}

function ticks(axis) {
  const label = (ratio) => (ratio < 1 ? `1/${Math.round(1 / ratio)}` : String(Math.round(ratio)));
  return axis.decades.map((ratio) => `<span style="left:${axis.at(ratio)}%">${label(ratio)}</span>`).join("");
}

function plot(axis, { name, ratio, gate, met }) {
  const [from, to] = [axis.at(Math.min(1, ratio.median)), axis.at(Math.max(1, ratio.median))];
  const kind = met === null ? "plain" : met ? "met" : "missed";
  const lines = axis.decades.map((decade) => `<i class="grid${decade === 1 ? " one" : ""}" style="left:${axis.at(decade)}%"></i>`).join("");
  const dots = (ratio.rounds ?? []).map((round) => `<i class="dot" style="left:${axis.at(round)}%"></i>`).join("");
  const mark = gate ? `<i class="gate" style="left:${axis.at(gate.limit)}%"></i>` : "";
  const words = `${name}: ${digits(ratio.median)}${gate ? `, gate ${gateText(gate)}` : ""}`;
  return `<div class="plot" role="img" aria-label="${escape(words)}">${lines}<i class="bar is-${kind}" style="left:${from}%;width:${Math.max(0.3, Math.round((to - from) * 100) / 100)}%"></i>${dots}${mark}</div>`;
}

function baselineLine(axis, baseline) {
  const { name, ratio, gate, met, missing } = baseline;
  if (missing) return `<div class="line"><div>${escape(name)}</div><div class="wide">not run: ${escape(missing)}</div></div>`;
  const verdict = met === null ? "" : met ? "met" : "missed";
  return `<div class="line"><div>${escape(name)}</div>${plot(axis, baseline)}<div class="number">${digits(ratio.median)}</div>`
    + `<div class="number soft spread">${digits(ratio.q1)} .. ${digits(ratio.q3)}</div><div class="number soft">${escape(gateText(gate))}</div>`
    + `<div class="verdict ${verdict}">${verdict}</div></div>`;
}

function rowBlock(axis, row) {
  const title = `<h3>${escape(row.name)}</h3> <span class="soft">${escape(row.about)}</span>`;
  if (row.error) return `<section class="row"><div class="head">${title}</div><p class="verdict missed">not run: ${escape(row.error)}</p></section>`;
  const time = `<span class="soft">· ${nanoseconds(row.subject.ns)} ns a ${escape(row.unit)}</span>`;
  const notes = row.notes.map((note) => `<p class="note">${escape(note)}</p>`).join("");
  return `<section class="row"><div class="head">${title} ${time}</div>${row.baselines.map((each) => baselineLine(axis, each)).join("\n")}${notes}</section>`;
}

function part(axis, heading, rows) {
  if (rows.length === 0) return "";
  const head = `<div class="axis"><div class="name">against</div><div class="ticks">${ticks(axis)}</div><div class="number">ours / it</div>`
    + `<div class="number">quartiles</div><div class="number">gate</div><div></div></div>`;
  return `<h2>${heading}</h2>\n${head}\n${rows.map((row) => rowBlock(axis, row)).join("\n")}`;
}

const KEY = [
  ["is-met", "gate met"], ["is-missed", "gate missed"], ["is-plain", "no gate"], ["gate", "the gate"], ["dot", "a round"],
].map(([kind, words]) => `<span><i class="swatch ${kind}"></i>${words}</span>`).join("");

/** The page: rows with gates (or that did not run) first, then the others. */
export function htmlReport(results, about, rounds) {
  const axis = new Axis(results);
  const judged = results.filter((row) => row.error || row.baselines.some(({ gate }) => gate));
  const gates = results.flatMap(({ baselines }) => baselines).filter(({ gate }) => gate);
  const failed = failures(results);
  const verdict = `${gates.filter(({ met }) => met).length} of ${gates.length} gates met`
    + (failed.length > 0 ? `; ${failed.length} missed or not run` : "");
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ioasid benchmarks</title><style>${STYLE}</style></head>
<body>
<h1>ioasid benchmarks</h1>
<p>${verdict}. Ratios of our time to the other's on a logarithmic axis: left of 1 we are faster.</p>
<div class="key soft">${KEY}</div>
${part(axis, "With gates", judged)}
${part(axis, "Reported", results.filter((row) => !judged.includes(row)))}
<footer><p>Node ${escape(about.node)}, V8 ${escape(about.v8)}, ${escape(about.cpu)} (${escape(about.arch)}); ${escape(about.compiler)}</p>
<p>${rounds} rounds; time is ${escape(about.clock)}. How it is measured and what the rows do: bench/README.md.</p></footer>
</body></html>
`;
}

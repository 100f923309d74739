// node replay-map.mjs <trace>: what `ioasid replay` does, as a program written for it alone: reads a recorded trace (format:
// test/traces/README.md), keeps a Map from page number to page for each domain, answers every DMA request from it and compares
// with the recorded answer. Prints counts as JSON; exit 3 if an answer differs. Addresses are numbers below 2^53.
import fs from "node:fs";
import process from "node:process";
import { gunzipSync } from "node:zlib";

const PAGE = 4096;
const BITS = { r: 1, w: 2, rw: 3 };

class Replay {
  domains = new Map();
  attached = new Map();
  counts = { events: 0, maps: 0, unmaps: 0, requests: 0, faults: 0, mismatches: 0 };

  domain(number) {
    let pages = this.domains.get(number);
    if (!pages) this.domains.set(number, (pages = new Map()));
    return pages;
  }

  map(number, iova, out, size, bits) {
    const pages = this.domain(number);
    const first = iova / PAGE;
    for (let n = 0; n < size / PAGE; n++) {
      if (pages.has(first + n)) throw new Error(`page ${first + n} is mapped already`);
      pages.set(first + n, { out: out + n * PAGE, bits });
    }
  }

  unmap(number, iova, size) {
    const pages = this.domain(number);
    for (let n = 0; n < size / PAGE; n++) {
      if (!pages.delete(iova / PAGE + n)) throw new Error(`page ${iova / PAGE + n} is not mapped`);
    }
  }

  /** Address of the first byte, -1 if any part is refused or lies apart from the rest. */
  translate(rid, iova, length, bit) {
    const pages = this.attached.get(rid);
    if (!pages) return -1;
    let first = -1;
    for (let done = 0; done < length; ) {
      const at = iova + done;
      const page = pages.get(Math.floor(at / PAGE));
      if (page === undefined || !(page.bits & bit)) return -1;
      const out = page.out + at % PAGE;
      if (first < 0) first = out;
      else if (out !== first + done) return -1;
      done += PAGE - at % PAGE;
    }
    return first;
  }

  event(fields) {
    const { counts } = this;
    counts.events++;
    switch (fields[0]) {
      case "dma": {
        const answer = this.translate(Number(fields[1]), Number(fields[3]), Number(fields[4]), BITS[fields[5]]);
        const fault = fields[6].startsWith("fault:") || fields[7] === "stale";
        counts.requests++;
        if (fault) counts.faults++;
        if (answer !== (fault ? -1 : Number(fields[6]))) counts.mismatches++;
        return;
      }
      case "map":
        counts.maps++;
        return this.map(fields[1], Number(fields[2]), Number(fields[3]), Number(fields[4]), BITS[fields[5]]);
      case "unmap":
        counts.unmaps++;
        return this.unmap(fields[1], Number(fields[2]), Number(fields[3]));
      case "attach":
        return void this.attached.set(Number(fields[2]), this.domain(fields[1]));
      case "detach":
        return void this.attached.delete(Number(fields[2]));
      case "inv":
        return;
      default:
        throw new Error(`unknown event ${fields[0]}`);
    }
  }
}

const replay = new Replay();
for (const line of gunzipSync(fs.readFileSync(process.argv[2])).toString("latin1").split("\n")) {
  if (line !== "" && line[0] !== "#") replay.event(line.split("\t"));
}
console.log(JSON.stringify(replay.counts));
if (replay.counts.mismatches > 0) process.exitCode = 3;

// A trace with PASIDs, made up: devices and their PASIDs are led to domains, and moved, and what each request must be answered is
// looked up in plain maps of pages. Imports the random numbers of the stress test.
import { randomBelow } from "../stress/random.mjs";

const DOMAINS = 6;
const RIDS = [0x20, 0x28, 0x130];
/** "-": without one. */
const PASIDS = ["-", "1", "2", "77", "0xfffff"];
const PAGES = 12;

const hex = (n: number): string => `0x${n.toString(16)}`;

interface Page {
  readonly out: number;
  readonly perm: "r" | "w" | "rw";
}

class Model {
  readonly lines = ["# ioasid-trace 1"];
  readonly #below: (n: number) => number;
  /** By domain, by page. */
  readonly #pages = Array.from({ length: DOMAINS }, () => new Map<number, Page>());
  /** Domain of "rid pasid". */
  readonly #routes = new Map<string, number>();
  #out = 0x1000;

  constructor(seed: number) {
    this.#below = randomBelow(seed);
  }

  add(): void {
    const kind = this.#below(10);
    if (kind === 0) this.#move();
    else if (kind < 3) this.#change();
    else this.#dma();
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#below(values.length)]!;
  }

  /** Attaches, moves or detaches a device, or one of its PASIDs. */
  #move(): void {
    const [rid, pasid, domain] = [this.#pick(RIDS), this.#pick(PASIDS), this.#below(DOMAINS)];
    const route = `${rid} ${pasid}`;
    const before = this.#routes.get(route);
    const leaves = before !== undefined && this.#below(3) === 0;
    if (leaves) this.#routes.delete(route);
    else this.#routes.set(route, domain);
    const number = leaves ? before : domain;
    this.lines.push(`${leaves ? "detach" : "attach"}\t${number + 1}\t${hex(rid)}${pasid === "-" ? "" : `\t${pasid}`}`);
  }

  /** Maps a page, or takes it away. */
  #change(): void {
    const [domain, page] = [this.#below(DOMAINS), this.#below(PAGES)];
    const pages = this.#pages[domain]!;
    if (pages.delete(page)) {
      this.lines.push(`unmap\t${domain + 1}\t${hex(page * 4096)}\t0x1000`);
      return;
    }
    const perm = this.#pick(["r", "rw", "rw"] as const);
    pages.set(page, { out: this.#out, perm });
    this.lines.push(`map\t${domain + 1}\t${hex(page * 4096)}\t${hex(this.#out)}\t0x1000\t${perm}`);
    this.#out += 4096 * (1 + this.#below(3));
  }

  #dma(): void {
    const [rid, pasid, page, within] = [this.#pick(RIDS), this.#pick(PASIDS), this.#below(PAGES), this.#below(4000)];
    const access = this.#pick(["r", "w"] as const);
    const domain = this.#routes.get(`${rid} ${pasid}`);
    const found = domain === undefined ? undefined : this.#pages[domain]!.get(page);
    const answer = found?.perm.includes(access) ? hex(found.out + within) : `fault:${found ? "not-permitted" : "not-mapped"}`;
    this.lines.push(`dma\t${hex(rid)}\t${pasid}\t${hex(page * 4096 + within)}\t${hex(1 + this.#below(96))}\t${access}\t${answer}`);
  }
}

/** The text of a trace with that many events. */
export function pasidTrace(seed: number, events: number): string {
  const model = new Model(seed);
  for (let n = 0; n < events; n++) model.add();
  return `${model.lines.join("\n")}\n`;
}

/** The same with every n-th answer altered: an address by one, a refusal into an address. */
export function alteredAnswers(text: string, every: number): { text: string; altered: number[] } {
  const altered: number[] = [];
  let n = 0;
  const lines = text.split("\n").map((line, i) => {
    if (!line.startsWith("dma\t") || n++ % every !== 0) return line;
    altered.push(i + 1);
    return line.replace(/[^\t]+$/, (answer) => (answer.startsWith("fault") ? "0x7000" : hex(Number(answer) + 1)));
  });
  return { text: lines.join("\n"), altered };
}

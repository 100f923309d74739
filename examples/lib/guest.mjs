// A small guest, for examples and tests: RAM from guest-physical address 0 on, page tables and PASID tables that it keeps there, and processes
// whose pages appear when they are first touched. It knows nothing of the host but where its RAM is. Imports nothing.
// Formats: Intel SDM volume 3, 4.5; Arm ARM D8.3 (VMSAv8-64); VT-d 9.5, 9.6; SMMUv3 5.3, 5.4; AMD-Vi 2.2.6.
// @ts-check

/** Permissions. */
export const READ = 1;
export const WRITE = 2;
const PAGE = 4096n;
const ADDRESS = 0xffff_ffff_f000n;
const bit = (/** @type {number} */ n) => 1n << BigInt(n);

/**
 * @typedef {{ process: { bytes(hva: bigint, length: number): Uint8Array } }} Host
 * @typedef {{ kind: "x86-64", levels: 4 | 5 } | { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 }} PagesFormat
 */

/** Pages of RAM to give out, from a guest-physical address on. */
export class GuestRam {
  #next;

  /** @param {Host} host @param {{ hva?: bigint, first?: bigint }} [options] where the process has GPA 0, and the first page to give out */
  constructor(host, { hva = 0x4000_0000n, first = 0x10_0000n } = {}) {
    this.host = host;
    this.hva = hva;
    this.#next = first;
  }

  /** Bytes of the RAM. Ask again each time: a view must not be kept. @param {bigint | number} gpa @param {number} length */
  bytes(gpa, length) {
    return this.host.process.bytes(this.hva + BigInt(gpa), length);
  }

  /** 64-bit words of it. @param {bigint | number} gpa @param {number} [count] */
  words(gpa, count = 1) {
    const { buffer, byteOffset } = this.bytes(gpa, count * 8);
    return new BigUint64Array(buffer, byteOffset, count);
  }

  /** New memory of whole pages, zeroed, aligned to its size, a power of two. @param {bigint} [size] @returns {bigint} its address */
  take(size = PAGE) {
    const at = (this.#next + size - 1n) & -size;
    this.bytes(at, Number(size)).fill(0);
    this.#next = at + size;
    return at;
  }
}

/**
 * How entries are written. Accessed and dirty bits are set in advance, as Linux does for tables that devices use.
 * @type {Readonly<Record<PagesFormat["kind"], { table: bigint, leaf(write: boolean, level: number): bigint }>>}
 */
const ENTRIES = {
  // Present 0, writable 1, user 2, accessed 5, dirty 6, page size 7.
  "x86-64": { table: 7n, leaf: (write, level) => 0x65n | (write ? bit(1) : 0n) | (level > 0 ? bit(7) : 0n) },
  // Valid 0, table or page 1, unprivileged 6, read-only 7, accessed 10.
  "aarch64-stage1": { table: 3n, leaf: (write, level) => (level > 0 ? 1n : 3n) | bit(6) | (write ? 0n : bit(7)) | bit(10) },
};

/** A page table of 4-KiB tables. */
export class GuestPages {
  /** @param {GuestRam} ram @param {PagesFormat["kind"]} [kind] @param {number} [levels] 4 or 5 of x86-64; Arm tables have four */
  constructor(ram, kind = "x86-64", levels = 4) {
    this.ram = ram;
    this.root = ram.take();
    this.levels = kind === "x86-64" ? levels : 4;
    this.kind = kind;
  }

  /** For the calls that bind it. @returns {PagesFormat} */
  get format() {
    return this.kind === "x86-64" ? { kind: "x86-64", levels: this.levels === 5 ? 5 : 4 } : { kind: this.kind, granule: 4096, inputWidth: 48 };
  }

  /** Maps a page, or a larger one in an entry of a higher level. @param {bigint} iova @param {bigint} gpa */
  map(iova, gpa, perm = READ | WRITE, level = 0) {
    this.#entry(iova, level)[0] = gpa | ENTRIES[this.kind].leaf((perm & WRITE) !== 0, level);
  }

  /** @param {bigint} iova */
  clear(iova, level = 0) {
    this.#entry(iova, level)[0] = 0n;
  }

  /** The entry, 0 where nothing is mapped. @param {bigint} iova @returns {bigint} */
  entry(iova, level = 0) {
    return this.#entry(iova, level)[0] ?? 0n;
  }

  /** The word of the entry, below tables that are made when they are missing. @param {bigint} iova @param {number} level */
  #entry(iova, level) {
    let table = this.root;
    for (let at = this.levels - 1; ; at--) {
      const word = this.ram.words(table + ((iova >> BigInt(12 + 9 * at)) & 511n) * 8n);
      if (at === level) return word;
      if (word[0] === 0n) word[0] = this.ram.take() | ENTRIES[this.kind].table;
      table = (word[0] ?? 0n) & ADDRESS;
    }
  }
}

/**
 * Stores to a table, in order: what a user whose guest has no caching mode must be told (`notifyWrite`).
 * @typedef {{ gpa: bigint, length: number }[]} Written
 */

/** VT-d in scalable mode: a directory, and tables of 64 entries. */
export class VtdPasidTable {
  /** @param {GuestRam} ram */
  constructor(ram, pasidBits = 13) {
    this.ram = ram;
    this.format = /** @type {const} */ ({ kind: "vtd-scalable", pasidBits });
    this.addr = ram.take(atLeastAPage(8n << BigInt(pasidBits - 6)));
  }

  /** First stage (PGTT 1); four or five levels (FSPM). @param {number} pasid @param {GuestPages} pages @returns {Written} */
  set(pasid, pages) {
    return this.#write(pasid, [bit(6) | 1n, 0n, pages.root | (pages.levels === 5 ? bit(2) : 0n)]);
  }

  /** @param {number} pasid @returns {Written} */
  clear(pasid) {
    return this.#write(pasid, [0n]);
  }

  /** Word 0 holds the present bit: it comes last. @param {number} pasid @param {readonly bigint[]} words @returns {Written} */
  #write(pasid, words) {
    const { table, written } = tableBelow(this.ram, this.addr + BigInt(pasid >> 6) * 8n, PAGE);
    return [...written, writeEntry(this.ram, table + BigInt(pasid & 63) * 64n, words)];
  }
}

/** SMMUv3 context descriptors: one table, or two levels with leaves of 4 or 64 KiB. */
export class ContextDescriptors {
  #leafLg2;

  /** @param {GuestRam} ram @param {"linear" | "two-level-4k" | "two-level-64k"} [layout] */
  constructor(ram, layout = "two-level-4k", pasidBits = 10) {
    this.ram = ram;
    this.format = /** @type {const} */ ({ kind: "smmuv3-cd", layout, pasidBits });
    this.#leafLg2 = { linear: pasidBits, "two-level-4k": 6, "two-level-64k": 10 }[layout];
    this.addr = ram.take(atLeastAPage(layout === "linear" ? 64n << BigInt(pasidBits) : 8n << BigInt(Math.max(0, pasidBits - this.#leafLg2))));
  }

  /** TTB0 alone, 48 bits (T0SZ 16) of 4-KiB pages; EPD1, V, IPS 5 (48 bits), AA64, R, A. @param {number} pasid @param {GuestPages} pages @returns {Written} */
  set(pasid, pages) {
    return this.#write(pasid, [16n | bit(30) | bit(31) | (5n << 32n) | bit(41) | bit(45) | bit(46), pages.root]);
  }

  /** @param {number} pasid @returns {Written} */
  clear(pasid) {
    return this.#write(pasid, [0n]);
  }

  /** @param {number} pasid @param {readonly bigint[]} words @returns {Written} */
  #write(pasid, words) {
    const { table, written } = this.format.layout === "linear" ? { table: this.addr, written: [] }
      : tableBelow(this.ram, this.addr + BigInt(pasid >> this.#leafLg2) * 8n, 64n << BigInt(this.#leafLg2));
    return [...written, writeEntry(this.ram, table + BigInt(pasid & ((1 << this.#leafLg2) - 1)) * 64n, words)];
  }
}

/** AMD-Vi: one to three levels of 512 entries each, that lead to a guest's CR3. */
export class Gcr3Table {
  /** @param {GuestRam} ram @param {1 | 2 | 3} [levels] */
  constructor(ram, levels = 2) {
    this.ram = ram;
    this.format = /** @type {const} */ ({ kind: "amd-gcr3", levels });
    this.addr = ram.take();
  }

  /** @param {number} pasid @param {GuestPages} pages @returns {Written} */
  set(pasid, pages) {
    return this.#write(pasid, pages.root | 1n);
  }

  /** @param {number} pasid @returns {Written} */
  clear(pasid) {
    return this.#write(pasid, 0n);
  }

  /** @param {number} pasid @param {bigint} word @returns {Written} */
  #write(pasid, word) {
    const entryAt = (/** @type {bigint} */ table, /** @type {number} */ level) => table + BigInt((pasid >> (9 * level)) & 511) * 8n;
    const stores = /** @type {Written} */ ([]);
    let at = this.addr;
    for (let level = this.format.levels - 1; level > 0; level--) {
      const { table, written } = tableBelow(this.ram, entryAt(at, level), PAGE);
      stores.push(...written);
      at = table;
    }
    return [...stores, writeEntry(this.ram, entryAt(at, 0), [word])];
  }
}

/** @param {bigint} size */
const atLeastAPage = (size) => (size < PAGE ? PAGE : size);

/**
 * The table that a pointer leads to, made when it is missing. @param {GuestRam} ram @param {bigint} gpa of the pointer @param {bigint} size
 * @returns {{ table: bigint, written: Written }}
 */
function tableBelow(ram, gpa, size) {
  const pointer = ram.words(gpa);
  if (pointer[0]) return { table: pointer[0] & ADDRESS, written: [] };
  const table = ram.take(size);
  pointer[0] = table | 1n;
  return { table, written: [{ gpa, length: 8 }] };
}

/** The first word says whether the entry is valid: it is written last. @param {GuestRam} ram @param {bigint} gpa @param {readonly bigint[]} words */
function writeEntry(ram, gpa, words) {
  const entry = ram.words(gpa, words.length);
  for (let n = words.length - 1; n >= 0; n--) entry[n] = words[n] ?? 0n;
  return { gpa, length: words.length * 8 };
}

/** A process of the guest: a page table, and areas whose pages appear when they are first touched. */
export class GuestProcess {
  #areas = /** @type {{ first: bigint, last: bigint, perm: number }[]} */ ([]);

  /** @param {GuestPages} pages */
  constructor(pages) {
    this.pages = pages;
  }

  /** From here on the addresses first..last are the process's. @param {bigint} first @param {bigint} last */
  reserve(first, last, perm = READ | WRITE) {
    this.#areas.push({ first, last, perm });
  }

  /** A page of its own that is there already. @param {bigint} iova @returns {bigint} where it is in the RAM */
  populate(iova, perm = READ | WRITE) {
    const gpa = this.pages.ram.take();
    this.pages.map(iova & -PAGE, gpa, perm);
    return gpa;
  }

  /**
   * A fault: the page is made, if the address is the process's and the access is permitted.
   * @param {bigint} iova @param {string} access "r", "w" or both @returns {boolean} whether to try again
   */
  touch(iova, access) {
    const area = this.#areas.find(({ first, last }) => first <= iova && iova <= last);
    if (area === undefined || (access.includes("w") && !(area.perm & WRITE))) return false;
    if (this.pages.entry(iova) === 0n) this.populate(iova, area.perm);
    return true;
  }
}

/**
 * The guest's answer to page requests, group by group: a group succeeds if each of its pages does.
 * @typedef {{ kind: string, cookie?: number, iova?: bigint, access?: string, last?: boolean }} FaultRecord
 */
export class FaultHandler {
  #failed = /** @type {Set<number>} */ (new Set());
  #processOf;
  #respond;

  /**
   * @param {(record: any) => GuestProcess | undefined} processOf whose page it is
   * @param {(cookie: any, success: boolean) => void} respond
   */
  constructor(processOf, respond) {
    this.#processOf = processOf;
    this.#respond = respond;
  }

  /** @param {any} record */
  handle(record) {
    if (record.kind !== "request") return;
    const { cookie, iova, access, last } = record;
    if (!this.#processOf(record)?.touch(iova, access)) this.#failed.add(cookie);
    if (last) this.#respond(cookie, !this.#failed.delete(cookie));
  }
}

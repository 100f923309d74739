// Worlds of misses that are not all alike: leaves of two sizes, two stages, and hits between the misses.
import * as L from "../dist/engine/layout.js";
import { FORMATS, VTD } from "./formats.mjs";
import { RequestPool } from "./pool.mjs";
import { randomBelow } from "./random.mjs";
import { attach, expectStatus, makeEngine, MIB, NO_IOTLB, PAGE, READ_WRITE, TABLE_PAGES, walkWorld, WALK_BASE, WALK_FRAMES } from "./worlds.mjs";

const BLOCK = 2 * MIB;

function fill(pool, route, random, iovaOf) {
  for (let lane = 0; lane < pool.lanes; lane++) pool.set(lane, iovaOf() + random(PAGE), route, 1 + random(READ_WRITE));
  return pool;
}

/**
 * A VT-d domain in which every 2 MiB are, at random, one leaf or 512; `leafTables` of the latter are to be expected. Returns
 * { engine, pool, tables }: random addresses, checked once against the arithmetic of the mapping; how many tables of leaves.
 */
export async function mixedWorld({ leafTables, lanes }) {
  const blocks = 2 * leafTables;
  const engine = await makeEngine({ tables: leafTables * 1.1 + 512, lanes, iotlbSets: NO_IOTLB });
  const domain = engine.createDomain(VTD.options);
  const random = randomBelow(blocks);
  const isTable = Uint8Array.from({ length: blocks }, () => random(2));
  const hpaOf = (iova) => iova - WALK_BASE + WALK_FRAMES + (isTable[Math.floor((iova - WALK_BASE) / BLOCK)] ? PAGE : 0);
  for (let block = 0; block < blocks; block++) {
    const first = WALK_BASE + block * BLOCK;
    expectStatus("map", engine.map(domain, BigInt(first), BigInt(first + BLOCK - 1), BigInt(hpaOf(first)), READ_WRITE));
  }
  const pool = new RequestPool(engine, engine.openPort(), 0, lanes);
  fill(pool, attach(engine, 8, domain), random, () => WALK_BASE + random(blocks * TABLE_PAGES) * PAGE);
  pool.expect(hpaOf);
  return { engine, pool, tables: isTable.reduce((sum, each) => sum + each) };
}

/** What a guest's x86-64 entry grants: present, writable, user, accessed, dirty. */
const GUEST_ENTRY = 0x67;

/** Writes 64-bit entries of a guest's table as two words each. */
class GuestTables {
  constructor(engine, pages) {
    this.words = new Uint32Array(engine.memory.buffer, engine.ram.offset, pages * PAGE / 4);
  }

  set(table, index, address) {
    const at = (table * TABLE_PAGES + index) * 2;
    this.words[at] = (address % 2 ** 32) + GUEST_ENTRY;
    this.words[at + 1] = address / 2 ** 32;
  }
}

/**
 * A guest's x86-64 table with `leafTables` tables of leaves, which lead to any of `pages` pages of the guest, above a VT-d second
 * stage whose leaves are all of 4 KiB. Returns { engine, pool }: random addresses, checked once against the arithmetic.
 */
export async function twoStageWorld({ leafTables, pages, lanes }) {
  const SLOT = 2 ** 36;
  const DATA = 2 ** 37;
  const upper = Math.ceil(leafTables / TABLE_PAGES);
  const tables = 2 + upper + leafTables;
  const engine = await makeEngine({ ram: tables * PAGE, tables: (tables + pages) / TABLE_PAGES + 64, lanes, iotlbSets: NO_IOTLB });
  engine.addSlot(BigInt(SLOT), BigInt(SLOT + tables * PAGE - 1), "memory", engine.ram.offset);
  const second = engine.createDomain(VTD.options);
  const mapPages = (gpa, hpa, n) => {
    expectStatus("map", engine.map(second, BigInt(gpa), BigInt(gpa + n * PAGE - 1), BigInt(hpa), READ_WRITE, 12));
  };
  mapPages(0, SLOT, tables);
  mapPages(DATA, WALK_FRAMES, pages);
  // Any page of data behind a leaf: a multiplication spreads them.
  const pageBehind = (n) => (Math.imul(n, 0x9e3779b1) >>> 0) % pages;
  const guest = new GuestTables(engine, tables);
  guest.set(0, Math.floor(WALK_BASE / 2 ** 39), PAGE);
  const firstEntry = Math.floor(WALK_BASE / 2 ** 30) % TABLE_PAGES;
  for (let n = 0; n < upper; n++) guest.set(1, firstEntry + n, (2 + n) * PAGE);
  for (let n = 0; n < leafTables; n++) {
    guest.set(2 + Math.floor(n / TABLE_PAGES), n % TABLE_PAGES, (2 + upper + n) * PAGE);
    for (let i = 0; i < TABLE_PAGES; i++) guest.set(2 + upper + n, i, DATA + pageBehind(n * TABLE_PAGES + i) * PAGE);
  }
  const { options } = FORMATS.find(({ number }) => number === L.FORMAT_X86_64);
  const domain = engine.createDomain({ ...options, guestRoot: 0n, stage2: second });
  const pool = new RequestPool(engine, engine.openPort(), 0, lanes);
  const random = randomBelow(pages);
  fill(pool, attach(engine, 8, domain), random, () => WALK_BASE + random(leafTables * TABLE_PAGES) * PAGE);
  pool.expect((iova) => WALK_FRAMES + pageBehind(Math.floor((iova - WALK_BASE) / PAGE)) * PAGE + iova % PAGE);
  return { engine, pool };
}

/**
 * As walkWorld with an IOTLB of 4096 entries, of which requests for 512 pages find theirs; of others so many are between them that
 * about `share` of all miss. Those evict some of the 512, one of eight.
 */
export async function pipelineWorld({ leafTables, lanes, share }) {
  const HOT = 512;
  const world = await walkWorld({ leafTables, lanes, iotlbSets: 1024 });
  const { pools: [pool] } = world;
  const random = randomBelow(lanes);
  const pages = leafTables * TABLE_PAGES;
  const hot = Array.from({ length: HOT }, () => random(pages));
  for (let lane = 0; lane < lanes; lane++) {
    const cold = random(2 ** 20) < share * (7 / 8) * 2 ** 20;
    pool.set(lane, WALK_BASE + (cold ? random(pages) : hot[random(HOT)]) * PAGE + random(PAGE), pool.requests[2], 1 + random(READ_WRITE));
  }
  return { engine: world.engine, pool };
}

// Walkers in JavaScript over the same tables as the engine's: VT-d second stage, 4 levels, 4-KiB, 2-MiB and 1-GiB leaves
// (Intel VT-d Architecture Specification, 3.7 and 9.8). One with two numbers an address, unrolled, as an expert writes it;
// one with bigint, as it is written first. `root` is the memory offset of the table; an answer of -1 is a refusal.
import { BATCH } from "../pool.mjs";

const READ_WRITE = 3;
const PAGE_SIZE = 0x80;
const TABLE_MASK = 0xfffff000 | 0;
const WIDTH_HIGH = 16;

/** hpa of an address in a leaf of 2^lg2 bytes (21 or 30) with that entry. */
function blockAddress(pteLow, pteHigh, lg2, low) {
  const inside = (1 << lg2) - 1;
  if ((pteLow & TABLE_MASK & inside) !== 0) return -1;
  return (pteHigh & 0xfffff) * 0x100000000 + (((pteLow & ~inside) | (low & inside)) >>> 0);
}

/** hpa of the iova (high, low), or -1; `words` is the memory as int32. */
function walkNumbers(words, root, low, high, need) {
  if (high >>> WIDTH_HIGH !== 0) return -1;
  let at = (root >>> 2) + (((high >>> 7) & 511) << 1);
  let pte = words[at];
  let perm = pte;
  if ((pte & READ_WRITE) === 0 || (pte & PAGE_SIZE) !== 0) return -1;
  at = ((pte & TABLE_MASK) >>> 2) + (((high << 2) | (low >>> 30)) & 511) * 2;
  pte = words[at];
  perm &= pte;
  if ((pte & READ_WRITE) === 0) return -1;
  if ((pte & PAGE_SIZE) !== 0) return (need & ~perm) !== 0 ? -1 : blockAddress(pte, words[at + 1], 30, low);
  at = ((pte & TABLE_MASK) >>> 2) + ((low >>> 21) & 511) * 2;
  pte = words[at];
  perm &= pte;
  if ((pte & READ_WRITE) === 0) return -1;
  if ((pte & PAGE_SIZE) !== 0) return (need & ~perm) !== 0 ? -1 : blockAddress(pte, words[at + 1], 21, low);
  at = ((pte & TABLE_MASK) >>> 2) + ((low >>> 12) & 511) * 2;
  pte = words[at];
  perm &= pte;
  if ((pte & READ_WRITE) === 0 || (need & ~perm) !== 0) return -1;
  return (words[at + 1] & 0xfffff) * 0x100000000 + (((pte & TABLE_MASK) | (low & 0xfff)) >>> 0);
}

export function twoNumberWalker(name, pool, root) {
  const { requests } = pool;
  const words = new Int32Array(requests.buffer);
  const output = new Float64Array(BATCH);
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      let at = batch * BATCH * 4;
      for (let lane = 0; lane < BATCH; lane++, at += 4) {
        output[lane] = walkNumbers(words, root, requests[at], requests[at + 1], requests[at + 3]);
      }
    },
  };
}

/** hpa of the iova, or -1n; `entries` is the memory as u64. */
function walkBigint(entries, root, iova, need) {
  if (iova >> 48n) return -1n;
  let table = root;
  let perm = 3n;
  for (let lg2 = 39n; ; lg2 -= 9n) {
    const pte = entries[Number((table >> 3n) + ((iova >> lg2) & 511n))];
    if (!(pte & 3n)) return -1n;
    perm &= pte;
    if (lg2 === 12n || pte & 0x80n) {
      const inside = (1n << lg2) - 1n;
      const address = pte & 0x000ffffffffff000n;
      if (lg2 > 30n || address & inside || need & ~perm) return -1n;
      return address | (iova & inside);
    }
    table = pte & 0x000ffffffffff000n;
  }
}

export function bigintWalker(name, pool, root) {
  const { requests, wide } = pool;
  const entries = new BigUint64Array(requests.buffer);
  const start = BigInt(root);
  const wanted = Array.from({ length: 8 }, (_, need) => BigInt(need));
  const output = new BigInt64Array(BATCH);
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      const first = batch * BATCH;
      for (let lane = 0; lane < BATCH; lane++) {
        output[lane] = walkBigint(entries, start, wide[(first + lane) * 2], wanted[requests[(first + lane) * 4 + 3]]);
      }
    },
  };
}

// Which leaves a map writes: the engine's choice, without an engine. Imports engine. Ranges are first..last, inclusive.
import { appendLeafRun, type LeafRun } from "../engine/records.js";
import type { Piece } from "./domain.js";

/** log2, rounded down; n > 0. */
const lg2 = (n: bigint): number => n.toString(2).length - 1;

/** The bits up to the lowest one that is set, all if none is: sizes to which an address is aligned. */
const aligned = (address: bigint): bigint => (address === 0n ? -1n : address ^ (address - 1n));

/**
 * Runs of equal leaves that map writes for pieces whose iovas ascend; `pageSizes` is a bit set of bytes. Each leaf is as
 * large as its two addresses, the rest of its piece and the piece's cap allow. Addresses and sizes are multiples of the
 * smallest page, and no cap is below it.
 */
export function leafRunsOf(pieces: readonly Piece[], pageSizes: bigint): LeafRun[] {
  const runs: LeafRun[] = [];
  for (const { iova, hpa, size, perm, cap } of pieces) {
    const sizes = cap === undefined ? pageSizes : pageSizes & ((2n << BigInt(cap)) - 1n);
    // A size to which the two addresses are never aligned together starts nowhere.
    const together = sizes & aligned(iova - hpa);
    for (let done = 0n; done < size;) {
      const left = size - done;
      const possible = together & aligned(iova + done) & ((2n << BigInt(lg2(left))) - 1n);
      if (possible === 0n) throw new Error(`no page size fits ${left} bytes at iova ${iova + done}`);
      const leaf = lg2(possible);
      const larger = together >> BigInt(leaf + 1) << BigInt(leaf + 1);
      // To where a larger leaf may start, whole leaves only.
      const step = larger & -larger;
      const reach = step === 0n || left < step - (iova + done) % step ? left : step - (iova + done) % step;
      const bytes = reach >> BigInt(leaf) << BigInt(leaf);
      appendLeafRun(runs, { first: iova + done, last: iova + done + bytes - 1n, hpa: hpa + done, perm, lg2: leaf });
      done += bytes;
    }
  }
  return runs;
}

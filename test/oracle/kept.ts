// One translation that an IOTLB was seen to hold, and whether the tables still say the same.
// May import the layout constants, engine-state.ts, memory-words.ts and the reference.
import { DATA_VALID, PERM_MASK } from "../../src/engine/layout.js";
import { hex, OracleError, type EngineView, type IdOwner } from "./engine-state.js";
import { wordsOf } from "./memory-words.js";
import { addressOfTag } from "./reference/address.js";
import { architectureOf } from "./reference/formats.js";
import { leafIsDirty } from "./reference/marks.js";
import { itemLg2, WRITE } from "./reference/types.js";
import { walkReference } from "./reference/walk.js";

const ADDRESS_MASK = 0x00ff_ffff_ffff_f000n;
const LEAF_LG2_SHIFT = 56n;
const LEAF_LG2_MASK = 0x3fn << LEAF_LG2_SHIFT;

export interface Kept {
  readonly id: number;
  readonly page: number;
  /** The data word of the entry. */
  readonly data: bigint;
  /** Invalidated: no longer among those that an IOTLB may hold. */
  dropped: boolean;
  /** What the last walk that agreed with it read, as [address, low, high]...; null when it has to be walked anew. */
  path: number[] | null;
  /** Signature of the domain of that walk. */
  signature: string;
}

export function makeKept(id: number, page: number, data: bigint): Kept {
  return { id, page, data, dropped: false, path: null, signature: "" };
}

/** Why this entry contradicts the table of the domain that owns its id, or null. */
function contradiction(owner: IdOwner, kept: Kept): string | null {
  const { table, tracksDirty } = owner.domain;
  const iova = addressOfTag(table, BigInt(kept.page) << BigInt(owner.pageLg2));
  const { steps, found, reason, level } = walkReference(table, iova);
  kept.path = null;
  if (!found) return `the table says ${reason} at level ${level}`;
  // The entry holds the difference from the page's address, so that a hit has only to add the iova.
  const word = BigInt.asUintN(64, kept.data + (BigInt(kept.page) << BigInt(owner.pageLg2)));
  const lg2 = Number(word >> LEAF_LG2_SHIFT);
  const perm = Number(word & PERM_MASK);
  if ((word & ~(ADDRESS_MASK | DATA_VALID | PERM_MASK | LEAF_LG2_MASK)) !== 0n) return "undefined bits are set";
  if ((word & ADDRESS_MASK) !== found.hpa) return `the table says ${hex(found.hpa)}`;
  if (lg2 !== found.leafLg2) return `the leaf has 2^${found.leafLg2} bytes`;
  if (lg2 < owner.pageLg2) return `the leaf is smaller than a page of its class, 2^${owner.pageLg2}`;
  if ((perm & ~found.perm) !== 0) return `the table permits ${found.perm}`;
  const needsDirty = tracksDirty && (perm & WRITE) !== 0;
  if (needsDirty && !leafIsDirty(table, iova)) return "it permits writing and the leaf is not dirty";
  // The dirty bit of a leaf that is written several times may be in a copy that the walk does not read.
  if (needsDirty && lg2 !== itemLg2(architectureOf(table.format), steps.at(-1)!.level)) return null;
  kept.path = steps.flatMap((step) => [Number(step.address), Number(step.pte & 0xffff_ffffn), Number(step.pte >> 32n)]);
  return null;
}

function pathHolds(words: Uint32Array, path: number[]): boolean {
  for (let i = 0; i < path.length; i += 3) {
    const index = path[i]! >>> 2;
    if (words[index] !== path[i + 1] || words[index + 1] !== path[i + 2]) return false;
  }
  return true;
}

function describe(owner: IdOwner, kept: Kept): string {
  const iova = BigInt(kept.page) << BigInt(owner.pageLg2);
  return `${hex(kept.data)} for iova ${hex(iova)} of domain ${owner.domain.index} (id ${kept.id})`;
}

/**
 * Throws an OracleError, which begins with `who`, when the table of the domain that owns the entry's id contradicts it. Ids
 * that nobody owns are retired and match nothing; tables that a guest owns may change under their entries.
 */
export function verifyKept(engine: EngineView, owners: ReadonlyMap<number, IdOwner>, kept: Kept, who: string): void {
  const owner = owners.get(kept.id);
  if (!owner || owner.domain.guest) return;
  const { signature } = owner.domain;
  if (kept.path && kept.signature === signature && pathHolds(wordsOf(engine.memory), kept.path)) return;
  const why = contradiction(owner, kept);
  kept.signature = signature;
  if (why !== null) throw new OracleError(`${who} ${describe(owner, kept)}: ${why}`);
}

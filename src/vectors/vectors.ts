// The vector format `iommu-vectors/1`: page-table images, questions about them, and the answers that somebody else computed.
// Types only; read.ts makes them from text. Imports nothing.

/** Words from gpa on. Every word of RAM that no run gives is zero. */
export interface MemoryRun {
  gpa: bigint;
  words: BigUint64Array;
}

/** First address and number of bytes. */
export interface RamRange {
  first: bigint;
  length: bigint;
}

interface UnitBase {
  ram: readonly RamRange[];
}

export interface VtdUnitSpec extends UnitBase {
  kind: "vtd";
  mode: "legacy" | "scalable";
  cap: bigint;
  ecap: bigint;
  haw: number;
  /** What the registers do not say: a leaf may force snooping although ECAP.SC is clear. Default: as ECAP.SC says. */
  snoopControl?: boolean;
}

export interface Smmuv3UnitSpec extends UnitBase {
  kind: "smmuv3";
  /** IDR0 to IDR5. */
  idr: readonly number[];
}

export interface AmdUnitSpec extends UnitBase {
  kind: "amdvi";
  /** The extended feature register. */
  efr: bigint;
}

export type UnitSpec = VtdUnitSpec | Smmuv3UnitSpec | AmdUnitSpec;

/** Where the structures begin: the kind is the unit's. */
export type TopSpec =
  | { kind: "vtd"; root: bigint }
  | { kind: "smmuv3"; base: bigint; log2size: number; split?: number }
  | { kind: "amdvi"; base: bigint; entries: number };

export interface Expected {
  /** Translated: the output address; nothing else is given of a refused one. */
  pa?: bigint;
  size?: bigint;
  perm?: string;
  bypass?: boolean;
  ipa?: bigint;
  s1Size?: bigint;
  fault?: string;
  code?: number;
  reported?: boolean;
  stage?: number;
  class?: string;
  level?: number;
  event?: readonly bigint[];
}

export interface Query {
  rid: number;
  pasid?: number;
  iova: bigint;
  write: boolean;
  expect: Expected;
  /** The answer is known to differ from the architecture, in the way that this names. */
  quirk?: string;
}

export interface VectorCase {
  id: number;
  style: string;
  top: TopSpec;
  memory: readonly MemoryRun[];
  queries: readonly Query[];
  /** The words that changed, when all queries were answered in order. */
  memoryAfter?: readonly { address: bigint; value: bigint }[];
}

export interface VectorFile {
  family: string;
  source: string;
  unit: UnitSpec;
  cases: readonly VectorCase[];
}

/** Text that is not of the format: where in it, and what is wrong. */
export class VectorError extends Error {
  override readonly name = "VectorError";
  constructor(readonly where: string, readonly reason: string) {
    super(where ? `${where}: ${reason}` : reason);
  }
}

/** A file of the format, of a kind of IOMMU that is not modelled. */
export class UnsupportedUnit extends Error {
  override readonly name = "UnsupportedUnit";
}

/** A query as messages give it. */
export function describeQuery({ rid, pasid, iova, write }: Query): string {
  const space = pasid === undefined ? "" : ` pasid ${pasid}`;
  return `rid 0x${rid.toString(16)}${space} iova 0x${iova.toString(16)} ${write ? "w" : "r"}`;
}

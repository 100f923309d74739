// Files of translation vectors (test/vectors/README.md): reading one, and the memory of a case.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Memory } from "../reference/types.js";

/** What a request was answered. Numbers written as strings are hexadecimal. */
export interface Expected {
  readonly pa?: string;
  readonly size?: number;
  readonly perm?: string;
  readonly bypass?: boolean;
  readonly ipa?: string;
  readonly s1_size?: number;
  readonly fault?: string;
  readonly code?: number;
  readonly reported?: boolean;
  readonly stage?: number;
  readonly class?: string;
  readonly event?: readonly string[];
}

export interface Query {
  readonly rid: number;
  readonly pasid?: number;
  readonly iova: string;
  readonly access: "r" | "w";
  readonly expect: Expected;
  readonly quirk?: string;
}

export interface VectorCase {
  readonly id: number;
  /** VT-d. */
  readonly root?: string;
  /** SMMUv3. */
  readonly strtab?: { readonly base: string; readonly log2size: number; readonly fmt: "linear" | "2level"; readonly split?: number };
  /** AMD. */
  readonly devtab?: { readonly base: string; readonly entries: number };
  readonly memory: readonly { readonly gpa: string; readonly q: readonly string[] }[];
  readonly memory_after?: readonly (readonly [string, string])[];
  readonly queries: readonly Query[];
}

export interface Unit {
  readonly kind: "vtd" | "smmuv3" | "amdvi";
  readonly mode?: "legacy" | "scalable";
  readonly haw?: number;
  readonly mgaw?: number;
  readonly levels?: readonly number[];
  readonly snoop_control?: boolean;
  readonly stage?: string;
  readonly idr?: readonly string[];
  readonly oas?: number;
  readonly ram: readonly (readonly [string, string])[];
}

export interface VectorFile {
  readonly format: string;
  readonly family: string;
  readonly unit: Unit;
  readonly cases: readonly VectorCase[];
}

export function loadVectors(path: string | URL): VectorFile {
  const file = JSON.parse(gunzipSync(readFileSync(path)).toString("utf8")) as VectorFile;
  if (file.format !== "iommu-vectors/1") throw new Error(`${String(path)}: format ${file.format} is not iommu-vectors/1`);
  return file;
}

/** The words of a case by address; those that are not in it are zero. */
export function wordsOfCase(one: VectorCase): Map<bigint, bigint> {
  const words = new Map<bigint, bigint>();
  for (const { gpa, q } of one.memory) {
    const first = BigInt(gpa);
    q.forEach((word, n) => words.set(first + BigInt(n) * 8n, BigInt(word)));
  }
  return words;
}

/** Memory that ends where the unit's RAM does. */
export function memoryOf(unit: Unit, words: ReadonlyMap<bigint, bigint>): Memory {
  const ranges = unit.ram.map(([first, length]) => [BigInt(first), BigInt(first) + BigInt(length) - 1n] as const);
  return (address) => (ranges.some(([first, last]) => address >= first && address <= last) ? words.get(address) ?? 0n : null);
}

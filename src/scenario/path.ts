// The way of one address from a device to memory: its address in each space on the way, and the table entries that the IOMMU read.
// Reads only. Imports the engine, the decoders, the host, the uAPI, and its own folder.
import type { PathStep } from "../iommu/decode/path.js";

export interface AccessPath {
  /** The address in each space that it passes: ioasids by name, then "hva" and "hpa"; it ends where nothing is mapped. */
  readonly hops: readonly { readonly space: string; readonly address: bigint }[];
  readonly steps: readonly PathStep[];
  /** How the walk ended, in a sentence. */
  readonly outcome: string;
}

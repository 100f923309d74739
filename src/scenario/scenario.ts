// A scenario as its file has it: a host, and steps with what they must answer. schema.ts says the same for files and refuses the
// rest; docs/scenarios.md explains it by example. Imports types only.
import type { PresetName } from "../iommu/model.js";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
/** A number up to 2^53 - 1, or "0x..." up to 64 bits. */
export type NumberText = number | string;
/** A number, or "$name", "$name.field" of what an earlier step called `as`. */
export type Value = number | string;

export interface Scenario {
  readonly scenario: 1;
  readonly $schema?: string;
  readonly name: string;
  readonly about?: string;
  readonly host?: HostSpec;
  readonly steps: readonly Step[];
}

/** The options of createHost; what is left out is its default. */
export interface HostSpec {
  readonly memory?: { readonly ram?: NumberText; readonly arena?: NumberText; readonly shared?: boolean };
  readonly iommus?: readonly IommuSpec[];
  readonly devices?: readonly DeviceSpec[];
  readonly lockLimit?: NumberText;
  readonly strictAttach?: boolean;
  readonly accounting?: "ioasid" | "fd";
  readonly slots?: NumberText;
  readonly routes?: NumberText;
  readonly domains?: NumberText;
  readonly faultQueue?: Readonly<Partial<Record<"records" | "stalls" | "depth", NumberText>>>;
  readonly pasidTables?: NumberText;
  readonly ports?: Readonly<Partial<Record<"count" | "iotlbSets" | "lanes" | "faults", NumberText>>>;
}

export interface IommuSpec {
  readonly name?: string;
  readonly preset?: PresetName;
  readonly stage?: 1 | 2;
  readonly granule?: NumberText;
  readonly addressWidth?: NumberText;
  readonly outputWidth?: NumberText;
  readonly reserved?: readonly { readonly first: NumberText; readonly last: NumberText; readonly why: string }[];
  readonly nesting?: boolean;
  readonly pageRequests?: boolean;
  readonly dirtyTracking?: boolean;
  readonly pasidBits?: NumberText;
}

export interface DeviceSpec {
  readonly name: string;
  readonly rid?: NumberText;
  readonly iommu?: string;
  readonly group?: NumberText;
  readonly parent?: string;
  readonly pasids?: "none" | "default" | "user";
  readonly enqcmd?: boolean;
  readonly pageRequests?: boolean;
}

/** Bytes: as hexadecimal text, as 64-bit words in little-endian order, or one byte again and again. */
export type Content =
  | { readonly bytes: string }
  | { readonly words: readonly NumberText[] }
  | { readonly fill: NumberText; readonly length: NumberText };

/** The call must be refused, by an error with these fields. */
export interface Refusal {
  readonly errno: string;
  readonly field?: string;
  readonly value?: Json;
  readonly conflict?: Json;
}

/** The access must be refused, by a fault with these fields. */
export interface Fault {
  readonly fault: { readonly reason: string; readonly [field: string]: Json };
}

interface Common {
  /** Shown before the step. */
  readonly note?: string;
}

export interface OpenStep extends Common {
  readonly open: string;
  readonly mode?: NumberText;
  readonly as?: string;
  readonly expect?: Refusal;
}

export interface IoctlStep extends Common {
  /** Name of the request, or its number. */
  readonly ioctl: string;
  readonly fd: Value;
  /** The structure, or the bare value where the call takes one. */
  readonly arg?: Json;
  readonly as?: string;
  /** Without it the call must only succeed. Of a structure, the fields that are named. */
  readonly expect?: Json | Refusal;
}

export interface CloseStep extends Common {
  readonly close: Value;
  readonly expect?: Refusal;
}

export interface MmapStep extends Common {
  readonly mmap: {
    readonly hva: Value;
    readonly size: Value;
    readonly prot?: "r" | "w" | "rw";
    readonly backing?: "ram" | "zero" | { readonly device: Value };
  };
  readonly as?: string;
  readonly expect?: Json | Refusal;
}

export interface MunmapStep extends Common {
  readonly munmap: { readonly hva: Value; readonly size: Value };
  readonly expect?: Refusal;
}

/** Writes to the memory of the process: what a guest does to its RAM. */
export interface PutStep extends Common {
  readonly put: readonly ({ readonly at: Value } & Content)[];
  readonly expect?: Refusal;
}

/** Reads the memory of the process. */
export interface GetStep extends Common {
  readonly get: Value;
  readonly expect: Content | Refusal;
}

/** Work for a device: the guest's CPU sends 64 bytes to its portal. */
export interface EnqcmdStep extends Common {
  /** Name of the device. */
  readonly enqcmd: string;
  /** The fd of /dev/kvm. */
  readonly vm: Value;
  /** The PASID that the guest's CPU holds. */
  readonly pasid: Value;
  readonly descriptor: Content;
  /** Whether the device has room for it. Default true. */
  readonly room?: boolean;
  /** The name by which DMA for this work tells so. */
  readonly as?: string;
  /** Default: it is accepted. */
  readonly expect?: Json | Refusal;
}

/** Neither: DMA without a PASID. */
interface WithPasid {
  /** The vPASID of an access. */
  readonly pasid?: Value;
  /** "$name" of the ENQCMD that brought the work it is done for: with that one's PASID. */
  readonly work?: Value;
}

/** Without: what is missing is refused. */
interface Pending {
  /** The access asks for missing pages and waits for them, while the scenario goes on. A later step waits for the one of this name. */
  readonly pending?: string;
  /** With `pending`: milliseconds until it gives up. */
  readonly timeout?: NumberText;
}

export type DmaStep = Common & WithPasid & Pending & { readonly dma: string } & (
  | { readonly read: Value; readonly length?: NumberText; readonly expect?: Content | Fault }
  | ({ readonly write: Value; readonly expect?: Fault } & Content)
);

/** Waits until DMA that is pending has ended. */
export interface WaitStep extends Common {
  /** "$name" of it. */
  readonly wait: Value;
  readonly expect?: Content | Fault;
}

/** Takes the next record of a fault queue; null: there is none. */
export interface FaultStep extends Common {
  /** The fd of /dev/ioasid. */
  readonly fault: Value;
  readonly as?: string;
  /** Default: there is one. */
  readonly expect?: Json;
}

/** Where an access would go: `hpa`, or the byte of the process's memory that is there. */
export type TranslateStep = Common & WithPasid & {
  readonly translate: string;
  readonly expect: { readonly hpa: Value } | { readonly hva: Value } | Fault;
} & ({ readonly read: Value } | { readonly write: Value });

/** Bytes charged to the lock limit: by the whole process, or by one ioasid of an fd. */
export interface ChargeStep extends Common {
  readonly charge: Value;
  readonly fd?: Value;
  readonly expect: Value;
}

export type Step =
  | OpenStep | IoctlStep | CloseStep | MmapStep | MunmapStep | PutStep | GetStep | EnqcmdStep | DmaStep | WaitStep | FaultStep
  | TranslateStep | ChargeStep;

export const VERBS = [
  "open", "ioctl", "close", "mmap", "munmap", "put", "get", "enqcmd", "dma", "wait", "fault", "translate", "charge",
] as const;
export type Verb = (typeof VERBS)[number];

/** The verb of a step: it has exactly one. */
export function verbOf(step: Step): Verb {
  return VERBS.find((verb) => verb in step)!;
}

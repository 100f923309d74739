// AMD-Vi with host tables: from device table and DeviceID to what the engine is given, and back from its refusals to events.
// AMD I/O Virtualization Technology Specification, 2.2.2 (device table), 2.2.3 (host tables), 2.5 (events).
// Imports the engine's layout, structures/ and faults/.
import * as L from "../../engine/layout.js";
import { AMD_NO_TRANSLATION, hardwareError, illegalDeviceEntry, pageFault } from "../faults/amd.js";
import type { ArchitecturalFault, EngineRefusal, Request } from "../faults/fault.js";
import { deviceEntry, type AmdCapabilities, type DeviceTable } from "../structures/amd-device-table.js";
import type { StructureRead, TableMemory } from "../structures/structure.js";
import type { IdentityStream, RefusedStream, TranslatedStream, Unit } from "./unit.js";

/** Why no request of a DeviceID is translated. */
type Cause =
  | { event: "ILLEGAL_DEV_TABLE_ENTRY"; reserved: boolean } | { event: "DEV_TAB_HARDWARE_ERROR"; address: bigint }
  | { event: "IO_PAGE_FAULT" | "none" };

type AmdFields = { domainId: number; suppress: boolean };
export type AmdStream = AmdFields & (TranslatedStream | IdentityStream | (RefusedStream & { cause: Cause }));

const ALL = L.PERM_R | L.PERM_W;
const OUTPUT_WIDTH = 52;
const INPUT_WIDTH = 64;

export class AmdUnit implements Unit<AmdStream> {
  readonly privileged = false;

  constructor(readonly memory: TableMemory, readonly unit: AmdCapabilities, readonly table: DeviceTable) {}

  /** Host tables serve requests without PASID; a PASID needs guest tables, which no unit here has. */
  stream(rid: number, pasid: number | undefined): AmdStream {
    const read: StructureRead[] = [];
    const entry = deviceEntry(this.memory, this.table, rid, this.unit, read);
    const none = { read, domainId: 0, suppress: false };
    switch (entry.kind) {
      case "fault": return { kind: "refuse", cause: { ...entry }, ...none };
      case "no-translation": return { kind: "refuse", cause: { event: "none" }, ...none };
      case "pass-through": return { kind: "identity", width: INPUT_WIDTH, permissions: ALL, ...none };
      default:
    }
    const { suppress } = entry;
    const permissions = (entry.readable ? L.PERM_R : 0) | (entry.writable ? L.PERM_W : 0);
    if (pasid !== undefined) return { kind: "refuse", cause: { event: "IO_PAGE_FAULT" }, read, domainId: 0, suppress };
    if (entry.kind === "untranslated") return { kind: "identity", read, width: INPUT_WIDTH, permissions, domainId: 0, suppress };
    const { levels, root, domainId } = entry;
    const width = Math.min(12 + 9 * levels, INPUT_WIDTH);
    const domain = { format: L.FORMAT_AMD_V1, levels, width, outputWidth: OUTPUT_WIDTH, guestRoot: root };
    return { kind: "translate", read, domain, permissions, domainId, suppress };
  }

  refusal(stream: AmdStream, request: Request): ArchitecturalFault {
    const { domainId, suppress } = stream;
    if (stream.kind !== "refuse") return pageFault(request, domainId, suppress);
    const { cause } = stream;
    switch (cause.event) {
      case "none": return AMD_NO_TRANSLATION;
      case "ILLEGAL_DEV_TABLE_ENTRY": return illegalDeviceEntry(request, cause.reserved);
      case "DEV_TAB_HARDWARE_ERROR": return hardwareError(cause.event, request, domainId, cause.address);
      default: return pageFault(request, domainId, suppress);
    }
  }

  fault(stream: AmdStream, request: Request, refusal: EngineRefusal): ArchitecturalFault {
    const { domainId, suppress } = stream;
    if (refusal.reason !== "table-outside") return pageFault(request, domainId, suppress, refusal);
    return hardwareError("PAGE_TAB_HARDWARE_ERROR", request, domainId, refusal.fetch ?? 0n);
  }

  outputFault(): undefined {
    return undefined;
  }
}

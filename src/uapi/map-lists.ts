// Lists of maps and unmaps: the same as one call for each entry, in order, but all or nothing, with every table written once and
// one wait for each. Errors name `entries[n].field`. May import iommu/ and, of this folder, all but the open files and the host.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import { checkStruct, firstByte, show } from "./arguments.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { fillTables, forget, keep, remove, requireMappable, takeArea, takeMapFlags, wholeAreas } from "./ioasid-maps.js";
import { mapRefused, type MapRefusal } from "./ioasid-errors.js";
import type { Area } from "./map-source.js";
import type { Entry } from "./range-map.js";
import { type Call, IOASID_DMA_MAP, IOASID_DMA_UNMAP, type MapEntry, REQUESTS, type UnmapEntry } from "./requests.js";

const MAP_FIELDS = ["iova", "vaddr", "size", "flags"] as const;
const UNMAP_FIELDS = ["iova", "size"] as const;
const MAP: Call = { name: REQUESTS[IOASID_DMA_MAP].name, fields: new Set(MAP_FIELDS) };
const UNMAP: Call = { name: REQUESTS[IOASID_DMA_UNMAP].name, fields: new Set(UNMAP_FIELDS) };

/** Maps all entries or none. An entry may not overlap one before it, and pages that several have are charged as one after the other. */
export function mapList(space: Ioasid, arg: { readonly entries: readonly MapEntry[] }, dryRun: boolean): void {
  requireMappable(MAP, space);
  const areas: Area[] = [];
  try {
    eachEntry(MAP, arg, MAP_FIELDS, (entry) => {
      const area = takeArea(space, entry, takeMapFlags(MAP, entry.flags));
      keep(area);
      areas.push(area);
    });
    const status = areas.length === 0 ? "ok" : fillTables(space, areas.toSorted(byFirst), dryRun);
    if (status !== "ok") throw listRefused(space, arg.entries, areas, status);
  } catch (error) {
    areas.reverse().forEach(forget);
    throw error;
  }
  if (dryRun) areas.reverse().forEach(forget);
}

/** Removes the maps that lie in the ranges, and answers their bytes. All entries are checked before the first map is removed. */
export function unmapList(space: Ioasid, arg: { readonly entries: readonly UnmapEntry[] }): bigint {
  requireMappable(UNMAP, space);
  const found = new Set<Entry<Area>>();
  eachEntry(UNMAP, arg, ["iova", "size", "flags"], (entry) => {
    // What an entry before this one removes is not there any more.
    for (const area of wholeAreas(space, entry, found)) found.add(area);
  });
  if (found.size === 0) return 0n;
  const maps = [...found].sort(byFirst);
  return remove(space, maps, maps);
}

function byFirst(a: { readonly first: number }, b: { readonly first: number }): number {
  return a.first - b.first;
}

/** What `take` throws of an entry names it. `elsewhere` are the fields that only entries have. */
function eachEntry<E extends object>(call: Call, arg: { readonly entries: readonly E[] }, elsewhere: readonly string[], take: (entry: E) => void): void {
  for (const field of elsewhere) {
    const value = (arg as unknown as Record<string, unknown>)[field];
    if (value === undefined) continue;
    throw new IoctlError("EINVAL", call.name, `${field}: entries have fields of their own`, { field, value, hint: "move it into the entries" });
  }
  const { entries } = arg;
  if (!Array.isArray(entries)) {
    const reason = `entries must be an array, not ${show(entries)}`;
    throw new IoctlError("EINVAL", call.name, reason, { field: "entries", value: entries, hint: "or leave it out" });
  }
  for (let n = 0; n < entries.length; n++) {
    try {
      // A hole of the array is a missing entry.
      const entry = (entries as readonly E[])[n]!;
      checkStruct(call, entry);
      take(entry);
    } catch (error) {
      throw error instanceof IoctlError ? error.ofEntry(n) : error;
    }
  }
}

/** The tables refuse the list: the first entry that they refuse by itself, or the list as a whole. */
function listRefused(space: Ioasid, entries: readonly MapEntry[], areas: readonly Area[], status: MapRefusal): IoctlError {
  if (status === "in-section") return inSection(MAP);
  const n = areas.findIndex((area) => refusesAlone(space, area, status));
  if (n >= 0) return mapRefused(status, areas[n]!).ofEntry(n);
  const { hint, errno } = mapRefused(status, areas[0]!);
  const bytes = areas.reduce((sum, { first, last }) => sum + firstByte(last - first + 1), 0n);
  const reason = `${areas.length} entries with ${bytes} bytes: no memory is left for page tables`;
  return new IoctlError(errno, MAP.name, reason, { field: "entries", value: entries, ...(hint !== undefined && { hint }) });
}

function refusesAlone(space: Ioasid, area: Area, status: MapRefusal): boolean {
  if (status === "no-frames") return false;
  return fillTables(space, [area], true) === status;
}

// Looks of a host machine's users into PASID tables: every entry that the guest has added, changed or removed since the last look is told, and no
// other, also when the memory that it lies in, or the table, has come or gone. A device that writes where a table points to brings a look too.
// Imports the calls of the machine, and the models.
import { expect } from "vitest";
import type { IoasidFd, PasidChange, PasidTableWatch } from "../../src/index.js";
import type { ErrnoName } from "../../src/uapi/errno.js";
import { type HostFile, type HostSpace, onSpace } from "../oracle/host-model.js";
import { GUEST_PASIDS } from "./host-machine-guest.js";

/** What this has of the machine. */
export interface MachineCalls {
  readonly files: ReadonlyMap<HostFile, IoasidFd>;
  call<T>(errnos: readonly ErrnoName[], act: () => T): { done: true; value: T } | { done: false; value: undefined };
}

/** What a look finds: the words of entries by PASID. */
interface Look {
  readonly pasidBits: number;
  readonly entries: ReadonlyMap<number, string>;
}

interface Watch {
  readonly file: HostFile;
  readonly space: HostSpace;
  readonly watch: PasidTableWatch;
  /** What was told since the last check. */
  readonly heard: PasidChange[];
  last: Look;
}

const MOST_WATCHES = 4;
/** A directory that is read from its second word on, as one that no device goes by may be, has 0x42 in the place of 2, and 0x41 of 1. */
const SEEN_PASIDS = [...GUEST_PASIDS, 2].sort((a, b) => a - b);

export class MachineWatches {
  readonly #machine: MachineCalls;
  readonly #watches: Watch[] = [];
  /** Changes that were told. */
  told = 0;

  constructor(machine: MachineCalls) {
    this.#machine = machine;
  }

  begin(file: HostFile, ioasid: number): void {
    if (this.#watches.length >= MOST_WATCHES) this.#watches.shift()!.watch.close();
    const errnos = onSpace(file, ioasid, ({ pasidTable }) => (pasidTable === undefined ? ["EINVAL"] : []));
    const heard: PasidChange[] = [];
    const { done, value } = this.#machine.call(errnos, () => this.#machine.files.get(file)!.watchPasidTable({ ioasid }, (changes) => heard.push(...changes)));
    if (!done) return;
    const space = file.spaces.get(ioasid)!;
    this.#watches.push({ file, space, watch: value!, heard, last: lookInto(space, { pasidBits: 0, entries: new Map() }) });
  }

  scan(nth: number): void {
    const each = this.#watches[nth % this.#watches.length];
    if (each === undefined) return;
    expect(each.watch.scan()).toEqual(each.heard);
    this.#checkHeard(each);
  }

  /** After each step: in one of them at most one thing changes, or a device writes. */
  check(): void {
    for (const each of this.#watches) if (each.heard.length > 0) this.#checkHeard(each);
  }

  #checkHeard(each: Watch): void {
    const { file, space, last, heard } = each;
    const isThere = file.spaces.get(space.number) === space;
    const now = isThere ? lookInto(space, last) : last;
    const byPasid = (a: PasidChange, b: PasidChange): number => a.pasid - b.pasid;
    expect([...heard].sort(byPasid)).toEqual(now.pasidBits === last.pasidBits ? compare(last.entries, now.entries)
      : [...compare(last.entries, new Map()), ...compare(new Map(), now.entries)].sort(byPasid));
    this.told += heard.length;
    heard.length = 0;
    each.last = now;
  }
}

/** One that was taken away has no entries. */
function lookInto({ pasidTable }: HostSpace, { pasidBits }: Look): Look {
  if (pasidTable === undefined) return { pasidBits, entries: new Map() };
  const found = SEEN_PASIDS.flatMap((pasid) => {
    const words = pasidTable.has(pasid) ? pasidTable.words(pasid) : undefined;
    return words === undefined ? [] : [[pasid, words.join()] as const];
  });
  return { pasidBits: pasidTable.pasidBits, entries: new Map(found) };
}

function compare(before: ReadonlyMap<number, string>, now: ReadonlyMap<number, string>): PasidChange[] {
  return SEEN_PASIDS.flatMap((pasid): PasidChange[] => {
    const [was, is] = [before.get(pasid), now.get(pasid)];
    if (was === is) return [];
    return [{ pasid, change: was === undefined ? "added" : is === undefined ? "removed" : "changed" }];
  });
}

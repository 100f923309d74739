// What a port counts: written by its own thread only, read by anybody. A build without them (bench/) says what they cost.
// Imports layout only.
import {
  PORT_COUNT_FAULTS, PORT_COUNT_LANES, PORT_COUNT_LOADS, PORT_COUNT_MISSES, PORT_COUNT_REASONS, PORT_COUNT_WALKS,
} from "./layout";

@unmanaged
export abstract class Count {
  @inline static add(at: usize, n: u32): void {
    if (!isDefined(NO_COUNTERS)) store<u64>(at, load<u64>(at) + n);
  }

  /** Translations asked. */
  @inline static lanes(port: usize, n: u32): void { Count.add(port + PORT_COUNT_LANES, n); }
  /** Of these not answered by the IOTLB. */
  @inline static misses(port: usize, n: u32): void { Count.add(port + PORT_COUNT_MISSES, n); }
  /** Of these walked. */
  @inline static walks(port: usize, n: u32): void { Count.add(port + PORT_COUNT_WALKS, n); }
  /** Table entries read. */
  @inline static loads(port: usize, n: u32): void { Count.add(port + PORT_COUNT_LOADS, n); }

  /** A refusal. */
  @inline static fault(port: usize, reason: u32): void {
    Count.add(port + PORT_COUNT_FAULTS, 1);
    Count.add(port + PORT_COUNT_REASONS + (<usize>reason << 3), 1);
  }
}

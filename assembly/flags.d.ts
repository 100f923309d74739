// Names that only some builds define (asconfig.json, option `use`); isDefined() asks for them, and what they rule out is left out.

/** The build for shared memory: other threads have ports, changes lock and wait. */
declare const SHARED: bool;
/** A build without the counters of ports (bench/). */
declare const NO_COUNTERS: bool;

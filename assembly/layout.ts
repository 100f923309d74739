// Every structure that the engine keeps in memory: offsets, sizes, and the words that live in them.
// Imports nothing. `src/engine/layout.ts` is generated from this file (scripts/layout.mjs): constants only,
// each a literal or an expression of the constants above it. All words are little-endian; ranges are first..last, inclusive.

/** Raised whenever a structure below changes; the loader refuses a module of another version. */
export const ABI_VERSION: u32 = 5;

// --- Engine header: one per arena, at its first byte -------------------------------------------------------------
export const ENGINE_ABI: u32 = 0; // u32
export const ENGINE_LENGTH: u32 = 4; // u32, bytes of the arena
export const ENGINE_SLOTS: u32 = 8; // u32, atomic, address of the slot table
export const ENGINE_SLOTS_SPARE: u32 = 12; // u32, address of the one that the next change of slots fills
export const ENGINE_SLOT_CAPACITY: u32 = 16; // u32
export const ENGINE_ROUTES: u32 = 20; // u32, address of the route records
export const ENGINE_ROUTE_KEYS: u32 = 24; // u32, address of the u64 keys, one a route
export const ENGINE_ROUTE_MASK: u32 = 28; // u32, number of routes - 1
export const ENGINE_DOMAINS: u32 = 32; // u32, address of the domain records
export const ENGINE_DOMAIN_CAPACITY: u32 = 36; // u32
export const ENGINE_PORTS: u32 = 40; // u32, address of port 0
export const ENGINE_PORT_STRIDE: u32 = 44; // u32, bytes from one port to the next
export const ENGINE_PORT_CAPACITY: u32 = 48; // u32
export const ENGINE_RING: u32 = 52; // u32, address of the invalidation ring
export const ENGINE_SINK: u32 = 56; // u32, address of a frame that stays zero: what lanes that failed, and tables in zero slots, read
export const ENGINE_ID_FIRST: u32 = 60; // u32, first IOTLB id after start and after a wrap
export const ENGINE_EPOCH: u32 = 64; // u32, atomic, even; what readers load of it and the next word is alone on its cache line
export const ENGINE_WAITERS: u32 = 68; // u32, atomic, changes that sleep until a section ends
export const ENGINE_RING_HEAD: u32 = 128; // u32, atomic, entries ever written; alone on its cache line
export const ENGINE_FRAMES: u32 = 192; // u32, address of frame 0
export const ENGINE_FRAME_COUNT: u32 = 196; // u32
export const ENGINE_FRAME_NEXT: u32 = 200; // u32, address of u32[frames]: index + 1 of the first frame of the next block of a list
export const ENGINE_FRAME_LIVE: u32 = 204; // u32, address of u16[frames]: live entries in that table
export const ENGINE_FRAMES_LIMBO: u32 = 208; // u32, frames that wait for readers
export const ENGINE_FAIL_IN: u32 = 212; // u32, for tests: how many reservations from here on the one lies that fails, 0 for none
export const ENGINE_FRAMES_USED: u32 = 224; // u32, frames taken and not given back (limbo counts as used)
export const ENGINE_ID_NEXT: u32 = 228; // u32, next IOTLB id
export const ENGINE_CLEARED: u32 = 232; // u64, bit set: log2 sizes of the leaves that the running unmap removed
export const ENGINE_ROUTE_COUNT: u32 = 240; // u32, atomic, routes interned
export const ENGINE_ROUTE_BEFORE: u32 = 244; // u32, address of u32[routes]: the route before in the list of the same domain, 0 for the first
export const ENGINE_SCRATCH: u32 = 248; // u32, address of SCRATCH_BYTES for records that a call takes or answers
export const ENGINE_FOUND: u32 = 252; // u32, records that the last call has written there
export const ENGINE_GRANTED: u32 = 276; // u32, beside ENGINE_FAIL_IN: tables that a reservation has promised to the maps after it
export const ENGINE_LOCK: u32 = 280; // u32, atomic, 1 while a change is made; the address of the port that publishes an entry of a PASID table; else 0
export const ENGINE_STALLED: u32 = 284; // u32, address of the port that the last change has not seen leave its section, 0 if none
export const ENGINE_QUEUE_CAPACITY: u32 = 292; // u32, a power of two
export const ENGINE_UNFINISHED: u32 = 296; // u64, what unmap would have answered, had no port stalled; ~0 if it has removed nothing
export const ENGINE_THREADS: u32 = 288; // u32, highest thread number that was given out
export const ENGINE_WALKERS: u32 = 304; // u64, bit set: batch walkers that some domain has needed
export const ENGINE_PATIENCE: u32 = 312; // u32, sleeps of a millisecond until a port counts as stalled; set by who makes the engine
export const ENGINE_DOMAIN_FREE: u32 = 316; // u32, no domain below that index is free
export const ENGINE_QUEUE: u32 = 428; // u32, address of the queue of what devices report
export const ENGINE_STALLS: u32 = 432; // u32, address of the stalls: accesses that wait for pages
export const ENGINE_STALL_CAPACITY: u32 = 436; // u32, a power of two
export const ENGINE_FRAME_FREE: u32 = 320; // u32[FRAME_ORDERS], for each order: index + 1 of the first frame of a free block
export const ENGINE_FRAME_LIMBO: u32 = 356; // u32[FRAME_ORDERS], the same of the blocks that wait for readers
export const ENGINE_FRAME_LIMBO_LAST: u32 = 392; // u32[FRAME_ORDERS], and of the last of these
export const ENGINE_PASID_TABLES: u32 = 440; // u32, address of the PASID table records
export const ENGINE_PASID_TABLE_CAPACITY: u32 = 444; // u32
export const ENGINE_WALK: u32 = 448; // a walk record for callers without a port
export const ENGINE_CURSOR: u32 = 2048; // the tables that the running merge, or plan of a list, last used
export const ENGINE_BYTES: u32 = 2112;

/** Thread number of the engine's own thread: the one that makes all changes. */
export const HOST_THREAD: u32 = 1;

// --- Slot table: replaced as a whole, so that a reader never sees half a change. Its records, sorted by first, follow ---------
export const SLOTS_COUNT: u32 = 0; // u32
export const SLOTS_FAST_OFFSET: u32 = 4; // u32, the largest slot with bytes: where its bytes are,
export const SLOTS_FAST_FIRST: u32 = 8; // u64, first address,
export const SLOTS_FAST_SPAN: u32 = 16; // u64, last - first
export const SLOTS_BYTES: u32 = 64;

// --- Slot: a range of host-physical addresses and where its bytes are ---------------------------------------------
export const SLOT_FIRST: u32 = 0; // u64
export const SLOT_LAST: u32 = 8; // u64
export const SLOT_OFFSET: u32 = 16; // u32, memory offset of the first byte (kind MEMORY)
export const SLOT_KIND: u32 = 20; // u32
export const SLOT_BYTES: u32 = 24;
export const SLOT_MEMORY: u32 = 1;
export const SLOT_ZERO: u32 = 2;
export const SLOT_DEVICE: u32 = 3;

// --- Route: what happens to DMA of one (rid, pasid); 64 bytes, one cache line ---------------------------------------
//  FIRST, SECOND   | id (19 bits) | 0 ... 0 | log2 of the page (6 bits) |   the two IOTLB classes, most likely first
//                  63           45                                    0    a route without a domain has id 0: no match
//  an address obeys the route's rule when ((iova + BIAS) & HIGH) == 0
export const ROUTE_FIRST: u32 = 0; // u64
export const ROUTE_SECOND: u32 = 8; // u64
export const ROUTE_BIAS: u32 = 16; // u64
export const ROUTE_HIGH: u32 = 24; // u64
export const ROUTE_ADDRESS_MASK: u32 = 32; // u64, the bits of an iova that the tag keeps
export const ROUTE_KIND: u32 = 40; // u32
export const ROUTE_DOMAIN: u32 = 44; // u32, index
export const ROUTE_NEXT: u32 = 48; // u32, next route of the same domain, 0 at the end
export const ROUTE_STREAK: u32 = 52; // u32, fills of the second class in a row
export const ROUTE_SWAPPING: u32 = 56; // u32, atomic, 1 while a port changes the order of FIRST and SECOND
export const ROUTE_TABLE: u32 = 60; // u32, atomic, of the route of a rid without PASID: 1 + the PASID table of the rid, 0 for none
export const ROUTE_BYTES: u32 = 64;
/** Class word of a route without a domain: id 0, and a shift that leaves no bit of any iova to be taken for an id. */
export const ROUTE_NO_CLASS: u32 = 63;
export const ROUTE_BLOCKED: u32 = 0;
export const ROUTE_IDENTITY: u32 = 1;
export const ROUTE_TRANSLATE: u32 = 2;
/** Route 0 is never handed out: an index outside the table, and a full table, end there. */
export const ROUTE_NONE: u32 = 0;
/** PASID of DMA without one. */
export const NO_PASID: u32 = 0xffffffff;

// --- Domain: what the IOMMU sees of an ioasid -----------------------------------------------------------------------
export const DOMAIN_STATE: u32 = 0; // u32, DOMAIN_FREE, DOMAIN_LIVE or DOMAIN_VACANT
export const DOMAIN_FORMAT: u32 = 4; // u32
export const DOMAIN_LEVELS: u32 = 8; // u32
export const DOMAIN_FLAGS: u32 = 12; // u32
export const DOMAIN_WALKER: u32 = 13; // u8, bits 15..8 of the flags: which batch walker serves it (WALKER_*)
export const DOMAIN_ROOT: u32 = 16; // u64, memory offset; hpa when the guest owns the table
export const DOMAIN_ID: u32 = 24; // u32, IOTLB id of the small class; the large class has the next one
export const DOMAIN_FRAGMENTED: u32 = 28; // u32, 1 once a leaf was cached as several entries
export const DOMAIN_BIAS: u32 = 32; // u64, the walk's address rule, as in a route
export const DOMAIN_HIGH: u32 = 40; // u64
export const DOMAIN_ADDRESS_MASK: u32 = 48; // u64
export const DOMAIN_ROUTES: u32 = 56; // u32, first route of this domain
export const DOMAIN_OUTPUT_LG2: u32 = 60; // u32, width of an output address
export const DOMAIN_INPUT_LG2: u32 = 64; // u32, width of an input address
export const DOMAIN_TOP_SHIFT: u32 = 68; // u32, log2 of the span of a top entry, less 3: iova >> this has the offset of the entry
export const DOMAIN_INPUT_MASK: u32 = 72; // u64, the bits below the input width: all that tables decode
export const DOMAIN_RESERVED_TABLE: u32 = 80; // u64, bits that must be clear in a pointer to a table
export const DOMAIN_RESERVED_LEAF: u32 = 88; // u64, and in a leaf
export const DOMAIN_STAGE2: u32 = 96; // u32, index of the domain that translates the output and the table pointers (DOMAIN_NESTED)
export const DOMAIN_UPPER: u32 = 100; // u32, index of the domain of iovas with bit 55 set (DOMAIN_HALVES)
export const DOMAIN_SMALL_LG2: u32 = 104; // u32, log2 of the pages of the small IOTLB class,
export const DOMAIN_LARGE_LG2: u32 = 108; // u32, and of the large one
export const DOMAIN_USERS: u32 = 112; // u32, live domains that name this one as their stage 2 or upper half
export const DOMAIN_TABLE: u32 = 116; // u32, 1 + the PASID table whose pool the record is of, 0 for none
export const DOMAIN_POOL_NEXT: u32 = 120; // u32, 1 + the next record of that pool, 0 at the end
export const DOMAIN_PASID: u32 = 124; // u32, whose entry was published there
export const DOMAIN_BYTES: u32 = 128;
export const DOMAIN_FREE: u32 = 0;
export const DOMAIN_LIVE: u32 = 1;
export const DOMAIN_VACANT: u32 = 2; // of a pool, with ids that no route carries; or a port's scratch record
export const DOMAIN_GUEST: u32 = 1; // flag: the table is in guest memory, read through slots
export const DOMAIN_SET_ACCESSED: u32 = 2; // flag: the walk sets accessed bits
export const DOMAIN_SET_DIRTY: u32 = 4; // flag: a write sets the dirty bit; an entry is cached writable only once it is dirty
export const DOMAIN_ACCESS_FAULT: u32 = 8; // flag: a leaf whose accessed bit is clear refuses
export const DOMAIN_NESTED: u32 = 16; // flag: it has a stage 2
export const DOMAIN_HALVES: u32 = 32; // flag: it has an upper half
export const DOMAIN_PAGE_REQUESTS: u32 = 128; // flag: a device may ask for the pages that its table lacks
/** What only some formats know. Write protect (x86-64): a privileged write needs the R/W bit too. */
export const OPTION_WRITE_PROTECT: u32 = 65536;
/** Arm stage 1: the permissions in table pointers (APTable, UXNTable, PXNTable) do not count. */
export const OPTION_IGNORE_TABLE_PERMISSIONS: u32 = 131072;
export const OPTIONS: u32 = 196608; // all of them
/** Address rules: bits above the width must be zero, equal to the sign bit, or one; TBI: the same with [63:56] ignored. */
export const RULE_ZERO: u32 = 0;
export const RULE_SIGN: u32 = 1;
export const RULE_ONES: u32 = 2;
export const RULE_TBI: u32 = 4; // flag beside one of the others
/** Bit of an iova that chooses between the halves of a domain that has two (Arm ARM, D8.2.4: VA[55]). */
export const HALF_BIT: u64 = 55;
/** No domain: the result of a creation that failed. */
export const DOMAIN_NONE: u32 = 0xffffffff; // all records are in use
export const DOMAIN_NO_FRAME: u32 = 0xfffffffe; // no frame for the root
export const DOMAIN_BAD_SHAPE: u32 = 0xfffffffd; // the format has no such number of levels, or not for that width
export const DOMAIN_BUSY: u32 = 0xfffffffc; // as STATUS_BUSY
export const DOMAIN_STALLED: u32 = 0xfffffffb; // as STATUS_STALLED

// --- PASID table: a table of a guest's that says for each PASID where DMA goes ---------------------------------------------
export const PASID_TABLE_STATE: u32 = 0; // u32, 0 free, 1 live
export const PASID_TABLE_KIND: u32 = 4; // u32
export const PASID_TABLE_ROOT: u32 = 8; // u64, address in the space of stage 2
export const PASID_TABLE_BITS: u32 = 16; // u32, bits of a PASID
export const PASID_TABLE_LAYOUT: u32 = 20; // u32, Arm: S1Fmt; AMD: levels
export const PASID_TABLE_WITHOUT: u32 = 24; // u32, what DMA without PASID gets
export const PASID_TABLE_STAGE2: u32 = 28; // u32, index of the domain below it
export const PASID_TABLE_OUTPUT_LG2: u32 = 32; // u32, width of an address that leaves stage 1
export const PASID_TABLE_FLAGS: u32 = 36; // u32
export const PASID_TABLE_USERS: u32 = 40; // u32, rids that it serves
export const PASID_TABLE_POOL: u32 = 44; // u32, 1 + the first record of its pool, 0 for none
export const PASID_TABLE_BYTES: u32 = 64;
export const PASID_TABLE_VTD: u32 = 0; // VT-d: directory and tables
export const PASID_TABLE_SMMUV3: u32 = 1; // Arm: context descriptors
export const PASID_TABLE_GCR3: u32 = 2; // AMD
/** DMA without PASID: the entry of PASID 0, stage 2 alone, or nothing. */
export const PASID_WITHOUT_ZERO: u32 = 0;
export const PASID_WITHOUT_BYPASS: u32 = 1;
export const PASID_WITHOUT_BLOCKED: u32 = 2;
/** Flags: five levels; accessed flags, and dirty state, set by hardware; page requests. Bit n, for the granules 2^n: 12, 14, 16. */
export const PASID_FIVE_LEVELS: u32 = 1;
export const PASID_SET_ACCESSED: u32 = 2;
export const PASID_SET_DIRTY: u32 = 4;
export const PASID_PAGE_REQUESTS: u32 = 8;

// --- IOTLB: sets of 64 bytes, [tag0..tag3 | data0..data3] ------------------------------------------------------------
//  tag   | id (19 bits) | page number (45 bits) |
//        63           45                        0
//  data  | result word of the page - its iova, 52 bits | 0 ... | PX | PW | PR | valid | X | W | R |    0 = empty
//        63                                          12 11       6    5    4    3       2   1   0
//  PX, PW and PR are the permissions of privileged requests. The difference is modulo 2^64, of iovas less the bits that the
//  tag does not keep: data without its low 12 bits, plus the iova, is the result word of a hit, whatever the size of the page.
export const TAG_ID_SHIFT: u64 = 45;
export const ID_LIMIT: u32 = 524288;
export const IOTLB_SET_BYTES: u32 = 64;
export const IOTLB_DATA: u32 = 32; // first data word of a set
export const DATA_VALID: u64 = 8;
export const PERM_MASK: u64 = 119;
export const PERM_R: u32 = 1;
export const PERM_W: u32 = 2;
export const PERM_X: u32 = 4;
/** The same three of a privileged request, shifted by this. */
export const PERM_PRIVILEGED_SHIFT: u32 = 4;
export const PERM_ANY_W: u32 = 34; // PERM_W of both
/** For makeLeaf, beside PERM_*: leave the dirty bit clear, somebody will collect it; and the accessed bit. */
export const PERM_CLEAN: u32 = 8;
export const PERM_UNUSED: u32 = 128;
/** Addresses of 57 bits and more do not fit a tag: such lanes are walked and not cached. */
export const TAG_ADDRESS_BITS: u32 = 57;
/** An iova below 2^56 is plain: what is held under its tag was walked for its page, whatever the route's rule (route.ts sees to it). */
export const TAG_PLAIN_BITS: u32 = 56;

// --- Request and result -----------------------------------------------------------------------------------------------
export const REQUEST_IOVA: u32 = 0; // u64
export const REQUEST_ROUTE: u32 = 8; // u32
export const REQUEST_NEED: u32 = 12; // u32, PERM_* that the access wants; 0 asks for the address alone
export const REQUEST_BYTES: u32 = 16;
//  result, translated  | 0 | identity | log2 of the run (6) | hpa (56) |
//  result, refused     | 1 | 0 ... | recoverable | level (8) | reason (8) |
//                      63                     16 15      8 7     0
export const RESULT_BYTES: u32 = 8;
export const RESULT_RUN_SHIFT: u64 = 56;
export const RESULT_IDENTITY_BIT: u64 = 62;
export const RESULT_FAULT_BIT: u64 = 63;
export const RESULT_LEVEL_SHIFT: u64 = 8;
export const RESULT_RECOVERABLE_BIT: u64 = 16;

// --- Port: one thread's way into the engine -----------------------------------------------------------------------------
export const PORT_ENGINE: u32 = 0; // u32, address of the engine header
export const PORT_STATE: u32 = 4; // u32, 0 free, 1 open
export const PORT_IOTLB: u32 = 8; // u32
export const PORT_HASH_SHIFT: u32 = 12; // u32, 64 - log2 of the sets
export const PORT_REQUESTS: u32 = 16; // u32
export const PORT_RESULTS: u32 = 20; // u32
export const PORT_CAPACITY: u32 = 24; // u32, lanes of a batch
export const PORT_MISSES: u32 = 28; // u32, address of u32[lanes]: lanes that missed
export const PORT_LANES: u32 = 32; // u32, address of the lane records of a walk group
export const PORT_FAULTS: u32 = 36; // u32, address of the fault ring
export const PORT_FAULT_CAPACITY: u32 = 40; // u32, a power of two
export const PORT_RING_TAIL: u32 = 44; // u32, invalidations already applied
export const PORT_VICTIM: u32 = 48; // u32, round robin
export const PORT_LANE_REQUESTS: u32 = 52; // u32, requests of the lanes being translated: the batch's or the scalar call's
export const PORT_LANE_RESULTS: u32 = 56; // u32, their results
export const PORT_REFUSED: u32 = 60; // u32, lanes that the running call has refused
export const PORT_ACTIVE: u32 = 64; // u32, atomic: 0, or epoch | 1 inside a section; alone on its cache line with
export const PORT_THREAD: u32 = 68; // u32, number of the thread that opened the port
export const PORT_OPENED: u32 = 72; // u32, how often it was opened
export const PORT_STAGES: u32 = 76; // u32, address of what walks of two stages need (STAGES_*)
export const PORT_SECOND: u32 = 80; // u32, 1 once an entry was filled in its route's second class: only then a lookup asks for that too
export const PORT_FAULT_HEAD: u32 = 128; // u32, atomic, records ever written
export const PORT_FAULT_OVERFLOW: u32 = 132; // u32, atomic, 1 since a record was dropped; the reader clears it
export const PORT_FAULT_DROPPED: u32 = 136; // u64
export const PORT_COUNT_LANES: u32 = 144; // u64, translations asked
export const PORT_COUNT_MISSES: u32 = 152; // u64, of these not answered by the IOTLB
export const PORT_COUNT_FAULTS: u32 = 160; // u64, of these refused
export const PORT_RESULT: u32 = 168; // u64, result of the scalar call
export const PORT_REQUEST: u32 = 176; // one request: the scalar call's
export const PORT_FAULT_TAIL: u32 = 192; // u32, atomic, records read; written by the reader, alone on its cache line
export const PORT_WALK: u32 = 256; // a walk record
export const PORT_SCRATCH: u32 = 1856; // another: stage 2 on behalf of an update of stage 1
export const PORT_COUNT_WALKS: u32 = 3456; // u64, translations that took a walk
export const PORT_COUNT_LOADS: u32 = 3464; // u64, table entries that walks read
export const PORT_COUNT_REASONS: u32 = 3472; // u64[REASONS], refusals by reason
export const REASONS: u32 = 16;
export const PORT_BYTES: u32 = 3648;

/** Number of the walker of domains that have no batch walker. Others have (format << WALKER_FORMAT_SHIFT) | WALKER_*. */
export const WALKER_EXACT: u32 = 63;
export const WALKER_FORMAT_SHIFT: u32 = 2;
export const WALKER_GUEST: u32 = 1; // flag: tables of a guest
export const WALKER_NESTED: u32 = 2; // flag: above a stage 2
/** Lanes of one walk group: address, touch and finish passes run over this many. */
export const GROUP_LANES: u32 = 128;
export const LANE_PTE: u32 = 0; // u32, address of the entry that ends the walk; before that, of the domain
export const LANE_LEVEL: u32 = 4; // u32
export const LANE_TABLES: u32 = 8; // u64, what the pointers on the path leave
export const LANE_INDEX: u32 = 16; // u32, lane of the batch
export const LANE_ROUTE: u32 = 20; // u32, address of its route record
export const LANE_BYTES: u32 = 24;
/** The same of two stages: first three words of stage 1 as above, then of stage 2. */
export const STAGES_LANES: u32 = 64;
export const LANE_STAGE2: u32 = 24; // PTE, LEVEL and TABLES of stage 2
export const LANE_PAGE: u32 = 32; // u64, over these TABLES: PAGE_DATA of the page of IPA; 0: only the exact walker knows
export const LANE_IPA: u32 = 40; // u64, what stage 2 is asked for: the next entry of stage 1, in the end its output
export const LANE_DOMAIN: u32 = 48; // u32, address of the domain,
export const LANE_SECOND: u32 = 52; // u32, and of its stage 2
export const LANE_PERM: u32 = 56; // u32, PERM_* of stage 1
export const LANE_LEAF_LG2: u32 = 60; // u32, size of its leaf; 0 until it is found
export const STAGES_LANE_BYTES: u32 = 64;
/** What walks of two stages need of a port: lanes, two lists of their addresses, and the pages of stage 2 that this call has met. */
export const STAGES_ACTIVE: u32 = 4096; // u32[STAGES_LANES], lanes that stage 2 is asked about
export const STAGES_MISSED: u32 = 4352; // u32[STAGES_LANES], of these the ones whose page was not met yet
export const STAGES_RUN: u32 = 4608; // u32, number of the call: pages of others are not met
export const STAGES_PAGES: u32 = 4672; // records
export const STAGES_PAGES_LG2: u32 = 8;
export const STAGES_BYTES: u32 = 12864;
export const PAGE_NUMBER: u32 = 0; // u64, ipa >> 12
export const PAGE_OWNER: u32 = 8; // u64, | STAGES_RUN | address of the domain of stage 2 |
export const PAGE_DATA: u32 = 16; // u64, | log2 of the leaf (8) | hpa of the page | DATA_VALID, PERM_* |
export const PAGE_BYTES: u32 = 32;

// --- Fault record ---------------------------------------------------------------------------------------------------------
export const FAULT_IOVA: u32 = 0; // u64
export const FAULT_IPA: u32 = 8; // u64, 0 when the fault is not of stage 2
export const FAULT_PTE: u32 = 16; // u64, the entry that refused, 0 when none was read
export const FAULT_RID: u32 = 24; // u32
export const FAULT_PASID: u32 = 28; // u32
export const FAULT_ROUTE: u32 = 32; // u32
export const FAULT_LANE: u32 = 36; // u32, lane of the batch
export const FAULT_ACCESS: u32 = 40; // u8, PERM_*
export const FAULT_REASON: u32 = 41; // u8
export const FAULT_CLASS: u32 = 42; // u8
export const FAULT_STAGE: u32 = 43; // u8, 1 or 2; 0 when no walk was made
export const FAULT_LEVEL: u32 = 44; // u8, 0 is the leaf table
export const FAULT_RECOVERABLE: u32 = 45; // u8, 1: a page request can help
export const FAULT_BYTES: u32 = 48;

// --- Queue of what devices report, from any thread to the host's: records ascend; and the accesses that wait for an answer ---------
export const QUEUE_HEAD: u32 = 0; // u32, atomic, records ever written
export const QUEUE_DROPPED: u32 = 4; // u32, atomic, records that found it full; the reader takes the number away
export const QUEUE_CHANGES: u32 = 8; // u32, atomic, records written and records dropped: what the reader waits for
export const QUEUE_LOCK: u32 = 12; // u32, atomic, number of the thread that writes a record, 0 if none does
export const QUEUE_TAIL: u32 = 64; // u32, atomic, records read; written by the reader, alone on its cache line
export const QUEUE_RECORDS: u32 = 128; // first record: a fault record and
export const QUEUE_GROUP: u32 = 48; // u32, of a page request: who waits
export const QUEUE_FLAGS: u32 = 52; // u32
export const QUEUE_RECORD_BYTES: u32 = 64;
export const QUEUE_REQUEST: u32 = 1; // flag: a page request; else an access that was refused
export const QUEUE_LAST: u32 = 2; // flag: the last request of its group
//  stall's state  | generation (29) | 0 free, 1 waits, 2 + answer |
export const STALL_STATE: u32 = 0; // u32, atomic
export const STALL_THREAD: u32 = 4; // u32, atomic, number of the thread whose access it is, 0: the place is free
export const STALL_BYTES: u32 = 8;
export const STALL_STATE_BITS: u32 = 3;
export const STALL_WAITS: u32 = 1;
export const STALL_ANSWERED: u32 = 2;

// --- Walk record: what the exact walker saw --------------------------------------------------------------------------------
export const WALK_REASON: u32 = 0; // u32, 0 = translated
export const WALK_LEVEL: u32 = 4; // u32
export const WALK_PERM: u32 = 8; // u32, permissions of the whole path
export const WALK_LEAF_LG2: u32 = 12; // u32, of two stages the smaller
export const WALK_HPA: u32 = 16; // u64, output address of exactly the iova asked
export const WALK_PTE: u32 = 24; // u64, the last entry read
export const WALK_IPA: u32 = 32; // u64, what stage 2 was asked for, when a reason is of stage 2
export const WALK_STEPS: u32 = 40; // u32, entries read
export const WALK_STAGE: u32 = 44; // u32, 1 or 2: of the reason
export const WALK_CLASS: u32 = 48; // u32, CLASS_*
export const WALK_CLEAN: u32 = 52; // u32, 1 if a stage that tracks writes has not seen one here: not to be cached writable
export const WALK_STEP: u32 = 56; // first step
export const STEP_ADDRESS: u32 = 0; // u64, of the entry: memory offset, or hpa or gpa when the guest owns the table
export const STEP_PTE: u32 = 8; // u64
export const STEP_AT: u32 = 16; // u32, memory offset of the entry
export const STEP_PERM: u32 = 20; // u32, permissions so far
export const STEP_LEVEL: u32 = 24; // u32
export const STEP_STAGE: u32 = 28; // u32
export const STEP_BYTES: u32 = 32;
export const MAX_LEVELS: u32 = 6;
/** Stage 1 has at most 6 entries; each of their addresses, and the output, takes at most 6 of stage 2. */
export const MAX_STEPS: u32 = 48;
export const WALK_BYTES: u32 = 1592;

// --- Invalidation ring ---------------------------------------------------------------------------------------------------------
export const RING_ENTRIES: u32 = 256;
export const RING_TAG: u32 = 0; // u64, first tag to drop
export const RING_SPAN: u32 = 8; // u32, further tags
export const RING_KIND: u32 = 12; // u32
export const RING_ENTRY_BYTES: u32 = 16;
export const RING_DROP: u32 = 0;
export const RING_CLEAR: u32 = 1; // everything: ids are about to be used again
export const RING_DROP_IDS: u32 = 2; // all tags of the id and of the next

// --- Scratch area: records of the calls below, in the order of their addresses -----------------------------------------
export const SCRATCH_BYTES: u32 = 4096;
/** A run of leaves: one after the other, equal in size and permissions, with outputs that are contiguous. */
export const LEAF_FIRST: u32 = 0; // u64
export const LEAF_LAST: u32 = 8; // u64
export const LEAF_HPA: u32 = 16; // u64, output address of `first`
export const LEAF_PERM: u32 = 24; // u32, PERM_*
export const LEAF_LG2: u32 = 28; // u32, size of each leaf
export const LEAF_BYTES: u32 = 32;
/** A range. */
export const RANGE_FIRST: u32 = 0; // u64
export const RANGE_LAST: u32 = 8; // u64
export const RANGE_BYTES: u32 = 16;
/** An area of a child: first..last -> what the parent maps from gpa on, with PERM_*. Areas ascend. */
export const AREA_FIRST: u32 = 0; // u64
export const AREA_LAST: u32 = 8; // u64
export const AREA_GPA: u32 = 16; // u64
export const AREA_PERM: u32 = 24; // u32
export const AREA_AT: u32 = 28; // u32, address of the parent's entry of gpa, once it is planned; 0 if not known
export const AREA_BYTES: u32 = 32;
/** What a call answers when the domain has no such range, or its table is a guest's; less a STATUS_*, for which nothing may be changed now. */
export const RECORDS_REFUSED: u32 = 0xffffffff;

// --- Frames and status --------------------------------------------------------------------------------------------------------
export const FRAME_LG2: u32 = 12;
export const FRAME_BYTES: u32 = 4096;
/** A block is 2^order frames, from one to 1 MiB: sixteen tables of 64 KiB side by side. */
export const FRAME_ORDERS: u32 = 9;
/** Formats, in the order of format/list.ts. */
export const FORMAT_VTD_SECOND: u32 = 0;
export const FORMAT_AMD_V1: u32 = 1;
export const FORMAT_X86_64: u32 = 2;
export const FORMAT_ARM_S1_4K: u32 = 3;
export const FORMAT_ARM_S1_16K: u32 = 4;
export const FORMAT_ARM_S1_64K: u32 = 5;
export const FORMAT_ARM_S2_4K: u32 = 6;
export const FORMAT_ARM_S2_16K: u32 = 7;
export const FORMAT_ARM_S2_64K: u32 = 8;
export const FORMAT_MOCK: u32 = 9;
export const FORMATS: u32 = 10;
/** What map answers; any other value is none. */
export const STATUS_OK: u32 = 0;
export const STATUS_OVERLAP: u32 = 1; // some of the range is mapped
export const STATUS_NO_FRAMES: u32 = 2;
export const STATUS_RANGE: u32 = 3; // outside the input or the output width
export const STATUS_ALIGN: u32 = 4; // not a multiple of the smallest page, or empty
export const STATUS_IN_SECTION: u32 = 5; // the caller's own thread is inside a section: waiting would deadlock
export const STATUS_NOT_OWNED: u32 = 6; // the guest owns the table
export const STATUS_PERM: u32 = 7; // the format cannot express this permission
export const STATUS_ATTACHED: u32 = 8; // routes still lead to the domain
export const STATUS_MISMATCH: u32 = 9; // the tables of the two domains differ in format, levels or width
export const STATUS_BUSY: u32 = 10; // another thread is making a change
export const STATUS_STALLED: u32 = 11; // a section that an earlier change waits for is still open; ENGINE_STALLED has its port
/** More than any of them. */
export const STATUSES: u32 = 12;
/** unmap answers bytes removed, or one of these (no table holds that many bytes). */
export const UNMAP_SPLIT: u64 = 0xffffffffffffffff; // the range ends inside a leaf
export const UNMAP_IN_SECTION: u64 = 0xfffffffffffffffe;
export const UNMAP_REFUSED: u64 = 0xfffffffffffffffd; // misaligned, outside the width, or a guest's table
export const UNMAP_BUSY: u64 = 0xfffffffffffffffc; // as STATUS_BUSY
export const UNMAP_STALLED: u64 = 0xfffffffffffffffb; // as STATUS_STALLED

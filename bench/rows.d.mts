// Types for tests of the benchmark itself.
import type { Row } from "./report.mjs";

export const ROWS: readonly Row[];

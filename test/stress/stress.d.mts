export function stress(options: {
  unmaps: number; threads: number; seed?: number; control?: "" | "no-wait" | "no-invalidation"; enough?: number; onProgress?: (done: number) => void;
}): Promise<{
  control: string; threads: number; unmaps: number; uses: number; stale: number; seconds: number;
  microseconds: { median: number; p90: number; p99: number; most: number }; framesLimbo: number; renumbered: number;
}>;

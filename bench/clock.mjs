// Processor time, not wall time: what else runs on the machine then only disturbs the caches.

/** { name, now() in nanoseconds }: this thread's processor time, or the whole process's where there is no addon. */
export function chooseClock(native) {
  if (native) return { name: "thread CPU time", now: native.cpuTime };
  return {
    name: "process CPU time (no addon for the thread's: helper threads of the JavaScript engine count too)",
    now() {
      const { user, system } = process.cpuUsage();
      return (user + system) * 1000;
    },
  };
}

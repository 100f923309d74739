// For node --import: at the end the process tells on file descriptor 3 how much processor time it has used, all threads, in microseconds.
import fs from "node:fs";
import process from "node:process";

process.on("exit", () => {
  const { user, system } = process.cpuUsage();
  fs.writeSync(3, String(user + system));
});

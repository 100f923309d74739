// The Chromium that @sparticuz/chromium carries, unpacked once into node_modules/.cache, with the libraries that it needs: answers
// the path of its binary, and points the environment at the libraries. Several processes may ask at once: each unpacks into a
// folder of its own, and the first to finish gives it its name.
import fs from "node:fs";
import path from "node:path";
import process from "node:process";

/** The package unpacks into TMPDIR, and its libraries only where it takes the machine for a Lambda. */
async function unpack(folder) {
  const wanted = { TMPDIR: folder, AWS_LAMBDA_JS_RUNTIME: "nodejs20.x" };
  const touched = [...Object.keys(wanted), "LD_LIBRARY_PATH", "FONTCONFIG_PATH"].map((name) => [name, process.env[name]]);
  Object.assign(process.env, wanted);
  try {
    const { default: chromium } = await import("@sparticuz/chromium");
    await chromium.executablePath();
  } finally {
    for (const [name, value] of touched) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

export async function chromiumPath(root = process.cwd()) {
  const folder = path.join(root, "node_modules/.cache/chromium");
  if (!fs.existsSync(folder)) {
    const own = `${folder}.${process.pid}`;
    fs.mkdirSync(own, { recursive: true });
    await unpack(own);
    try {
      fs.renameSync(own, folder);
    } catch (error) {
      if (!fs.existsSync(folder)) throw error;
      fs.rmSync(own, { recursive: true, force: true });
    }
  }
  const libraries = path.join(folder, "al2023/lib");
  if (!process.env.LD_LIBRARY_PATH?.split(":").includes(libraries)) {
    process.env.LD_LIBRARY_PATH = [libraries, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  }
  process.env.FONTCONFIG_PATH ??= path.join(folder, "fonts");
  return path.join(folder, "chromium");
}

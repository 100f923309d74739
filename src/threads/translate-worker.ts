// A worker that answers what a TranslationPool shares out. Runs in Node and in browsers. Imports engine, request-share.
import { connectEngine, type EngineToken } from "../engine/token.js";
import { RequestShare, type ShareToken } from "./request-share.js";

interface MessagePortLike {
  postMessage(message: unknown): void;
  on?(event: "message", listener: (message: unknown) => void): void;
  onmessage?: ((event: { data: unknown }) => void) | null;
}
type MaybeNode = { process?: { getBuiltinModule?(name: string): unknown } };

const threads = (globalThis as MaybeNode).process?.getBuiltinModule?.("node:worker_threads") as { parentPort: MessagePortLike | null } | undefined;
const parent = threads?.parentPort ?? (globalThis as unknown as MessagePortLike);

function run({ engine, share }: { engine: EngineToken; share: ShareToken }): void {
  const port = connectEngine(engine).openPort();
  parent.postMessage("ready");
  RequestShare.of(share).serve(port);
  port.close();
}

if (parent.on) parent.on("message", (message) => run(message as Parameters<typeof run>[0]));
else parent.onmessage = ({ data }) => run(data as Parameters<typeof run>[0]);

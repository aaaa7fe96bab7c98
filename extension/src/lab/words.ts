// How the extension speaks of an engine: the same words in the sidebar, the status bar and the panels' titles.

import { int, percent } from "../format.ts";
import type { EngineMode } from "../protocol.ts";
import { isViewName, VIEWS } from "../views/index.ts";
import type { EngineSummary } from "./lab_protocol.ts";

const STATE_NAMES: Record<EngineMode, string> = {
  running: "running",
  idle: "idle",
  paused: "paused",
  closed: "stopped",
  error: "failed",
};

export function stateName(state: EngineMode): string {
  return STATE_NAMES[state];
}

export function tokensPerSecond(engine: EngineSummary): string {
  return int(engine.tokens_per_second);
}

export function kvShare(engine: EngineSummary): number {
  return engine.num_blocks === 0 ? 0 : engine.num_used_blocks / engine.num_blocks;
}

export function statusLine(engine: EngineSummary): string {
  const parts = [stateName(engine.state)];
  if (engine.state !== "closed") {
    parts.unshift(`KV ${percent(kvShare(engine))}`);
    parts.unshift(`${tokensPerSecond(engine)} tok/s`);
  }
  return parts.join(" · ");
}

/** Can it be told to do anything? */
export function commandable(engine: EngineSummary): boolean {
  return engine.state !== "closed" && engine.state !== "error";
}

export const KERNEL_AWAITED =
  "It has not answered since this page was opened: a running cell may keep it busy. Everything goes on here as soon as it does.";

/** What tells a panel's engine from the others of the page, after the view's name: its number in its kernel, its notebook. */
export function whichEngine(
  engine: EngineSummary,
  { name, link }: { readonly name: string; readonly link: object },
  engines: readonly { readonly link: object }[],
): string {
  const number = engines.filter((other) => other.link === link).length > 1 ? ` #${engine.ordinal}` : "";
  return engines.some((other) => other.link !== link) ? `${number} · ${name}` : number;
}

export function viewTitle(view: string): string {
  return isViewName(view) ? VIEWS[view].title : "Dashboard";
}

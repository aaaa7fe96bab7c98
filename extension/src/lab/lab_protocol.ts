// What the extension and a kernel say to each other; PROTOCOL.md tells the rules.

import type { EngineMode, ToEngine } from "../protocol.ts";

export const TARGET = "inference-workbench";

export interface EngineSummary {
  engine_id: string;
  /** The how manieth engine of its kernel's process, from 1. */
  ordinal: number;
  model: string;
  device: string;
  dtype: string;
  state: EngineMode;
  message: string | null;
  step: number;
  tokens_per_second: number;
  num_running: number;
  num_waiting: number;
  num_used_blocks: number;
  num_blocks: number;
}

export type ToKernel =
  | { type: "watch"; seconds: number | null }
  | { type: "stills"; editions: Record<string, string> }
  | { type: "engine"; engine_id: string; message: ToEngine };

export type FromKernel =
  | { type: "engines"; protocol: number; engines: EngineSummary[] }
  | { type: "engine"; engine_id: string; message: unknown };

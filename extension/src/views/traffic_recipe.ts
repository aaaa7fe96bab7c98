// The fields of the traffic form and the recipe that they make. No DOM here.

import { count, seconds } from "../format.ts";
import type { Arrivals, Recipe } from "../protocol.ts";
import type { CardContent } from "../ui/hover_card.ts";

export interface RecipeField {
  readonly name: string;
  readonly label: string;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step?: number;
  readonly hint: string;
  /** The next field goes on from this one: they stay in one line. */
  readonly joined?: boolean;
}

export const ARRIVAL_FIELDS: Record<Arrivals, readonly RecipeField[]> = {
  poisson: [
    {
      name: "rate",
      label: "Rate (/s)",
      value: 4,
      min: 0.01,
      max: 1000,
      step: 0.5,
      hint: "Requests a second, on average",
    },
    { name: "count", label: "Requests", value: 24, min: 1, max: 2000, hint: "How many in all" },
  ],
  bursts: [
    { name: "num_bursts", label: "Bursts", value: 3, min: 1, max: 200, hint: "How many bursts" },
    { name: "burst_size", label: "Size", value: 8, min: 1, max: 500, hint: "Requests at once" },
    { name: "interval", label: "Every (s)", value: 2, min: 0.01, max: 600, step: 0.5, hint: "Seconds between bursts" },
  ],
  closed_loop: [
    { name: "num_users", label: "Users", value: 6, min: 1, max: 200, hint: "Each waits for its answer" },
    { name: "requests_per_user", label: "Requests each", value: 4, min: 1, max: 200, hint: "Requests of each user" },
    {
      name: "think_time",
      label: "Thinks (s)",
      value: 0.5,
      min: 0,
      max: 600,
      step: 0.1,
      hint: "Seconds between an answer and the next request, on average",
    },
  ],
};

export const COMMON_FIELDS: readonly RecipeField[] = [
  {
    name: "prompt_low",
    label: "Prompt (tokens)",
    value: 16,
    min: 1,
    max: 100_000,
    hint: "Fewest prompt tokens",
    joined: true,
  },
  { name: "prompt_high", label: "to", value: 64, min: 1, max: 100_000, hint: "Most prompt tokens" },
  {
    name: "output_low",
    label: "Output (tokens)",
    value: 16,
    min: 1,
    max: 100_000,
    hint: "Fewest output tokens",
    joined: true,
  },
  { name: "output_high", label: "to", value: 64, min: 1, max: 100_000, hint: "Most output tokens" },
  {
    name: "shared",
    label: "Shared prefix (%)",
    value: 0,
    min: 0,
    max: 100,
    step: 5,
    hint: "Share of the prompts that begin alike",
    joined: true,
  },
  { name: "prefix_len", label: "of (tokens)", value: 48, min: 1, max: 100_000, hint: "Tokens of the shared prefix" },
  {
    name: "urgent",
    label: "Urgent (%)",
    value: 0,
    min: 0,
    max: 100,
    step: 5,
    hint: "Share of the requests with priority −1; seen by the priority policy",
  },
  { name: "seed", label: "Seed", value: 0, min: 0, max: 1_000_000, hint: "The same seed gives the same traffic" },
];

/** The recipe of the values in the form, by the names of the fields above; `read` gives one of them. */
export function recipeOf(arrivals: Arrivals, lengths: string, read: (name: string) => number): Recipe {
  const recipe: Recipe = {
    arrivals,
    lengths,
    prompt_len: [read("prompt_low"), read("prompt_high")],
    output_len: [read("output_low"), read("output_high")],
    shared_fraction: read("shared") / 100,
    prefix_len: read("prefix_len"),
    urgent_fraction: read("urgent") / 100,
    seed: read("seed"),
  };
  for (const { name } of ARRIVAL_FIELDS[arrivals]) recipe[name] = read(name);
  return recipe;
}

export interface Stem {
  /** Place from 0 to 1. */
  readonly x: number;
  readonly prompt: number;
  readonly output: number;
  readonly urgent: boolean;
}

/** What is known of the request whose stem is nearest to a place from 0 to 1. */
export function stemCard(requests: readonly PreviewRow[], place: number): CardContent {
  const all = stems(requests);
  const away = (i: number): number => Math.abs(all[i]!.x - place);
  const nearest = all.reduce((best, _, i) => (away(i) < away(best) ? i : best), 0);
  const [time, after, prompt, output, priority] = requests[nearest]!;
  const when =
    after === null ? `${seconds(time)} after the start` : `${seconds(time)} after the end of number ${after + 1}`;
  return {
    title: `Request ${nearest + 1} of ${requests.length}`,
    lines: [
      ["arrives", when],
      ["prompt", count(prompt, "token")],
      ["output", count(output, "token")],
      ...(priority < 0 ? ([["priority", `${priority}, urgent`]] as const) : []),
    ],
  };
}

/** One stem for each request, at its arrival; in a closed loop, whose times nobody knows before, in order. */
export function stems(requests: readonly PreviewRow[]): Stem[] {
  const open = requests.every(([, after]) => after === null);
  const last = Math.max(...requests.map(([time]) => time), 1e-9);
  return requests.map(([time, , prompt, output, priority], i) => ({
    x: open ? time / last : i / Math.max(1, requests.length - 1),
    prompt,
    output,
    urgent: priority < 0,
  }));
}

export type PreviewRow = readonly [
  time: number,
  after: number | null,
  prompt: number,
  output: number,
  priority: number,
];

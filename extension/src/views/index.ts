// Every view by name, and the panels that the dashboard is made of.

import type { ViewFactory } from "../ui/stage.ts";
import { blocksView } from "./blocks.ts";
import { controlsView } from "./controls.ts";
import { kernelsView } from "./kernels.ts";
import { knobsView } from "./knobs.ts";
import { latencyView } from "./latency.ts";
import { memoryView } from "./memory.ts";
import { playgroundView } from "./playground.ts";
import { requestsView } from "./requests.ts";
import { timelineView } from "./timeline.ts";
import { trafficView } from "./traffic.ts";
import { whatIfView } from "./what_if.ts";

export const VIEW_NAMES = [
  "controls",
  "knobs",
  "playground",
  "blocks",
  "timeline",
  "requests",
  "memory",
  "latency",
  "kernels",
  "traffic",
  "what_if",
] as const;

export type ViewName = (typeof VIEW_NAMES)[number];

/** The dashboard is about requests and their memory; the machine has a view of its own. */
export const DASHBOARD = VIEW_NAMES.filter((name) => name !== "kernels");

export interface ViewKind {
  readonly title: string;
  readonly question: string;
  /** In the dashboard it is one line until it is opened. */
  readonly folded?: boolean;
  readonly make: ViewFactory;
}

export const VIEWS: Record<ViewName, ViewKind> = {
  controls: { title: "Controls", question: "", make: controlsView },
  knobs: { title: "Knobs", question: "What would it do, what did it do?", folded: true, make: knobsView },
  playground: { title: "Playground", question: "What does it say?", make: playgroundView },
  blocks: { title: "KV blocks", question: "Whose memory, what is shared, what goes next?", make: blocksView },
  timeline: { title: "Timeline", question: "What ran together, and who waited for what?", make: timelineView },
  requests: { title: "Requests", question: "Why is this one waiting, preempted or slow?", make: requestsView },
  memory: { title: "Memory", question: "Who holds the bytes?", make: memoryView },
  traffic: { title: "Traffic", question: "What if many came at once?", make: trafficView },
  what_if: { title: "What if", question: "Who would have gained, who lost, and why?", make: whatIfView },
  kernels: {
    title: "Kernels",
    question: "Where did the step's time go, and how near is the limit?",
    make: kernelsView,
  },
  latency: { title: "Latency", question: "How long to a token?", make: latencyView },
};

export function isViewName(name: string): name is ViewName {
  return (VIEW_NAMES as readonly string[]).includes(name);
}

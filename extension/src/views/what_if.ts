// What if: the recorded run, or the traffic of the form, simulated under other settings and compared.

import { int } from "../format.ts";
import { h, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { ComparePanel } from "./compare.ts";

const NUMBERS = [
  ["max_num_seqs", "Seqs", "max_num_seqs: most requests in a batch"],
  ["max_num_batched_tokens", "Budget", "max_num_batched_tokens: token budget of a step"],
  ["num_gpu_blocks_override", "KV blocks", "num_gpu_blocks_override: size of the KV pool"],
] as const;
const POLICIES = ["fcfs", "priority", "sjf", "fair"];

export function whatIfView(element: HTMLElement, context: ViewContext): View {
  return new WhatIfView(element, context);
}

class WhatIfView implements View {
  private readonly context: ViewContext;
  private readonly numbers: Record<(typeof NUMBERS)[number][0], HTMLInputElement>;
  private readonly policy: HTMLSelectElement;
  private readonly caching: HTMLSelectElement;
  private readonly ask: HTMLButtonElement;
  private readonly stop: HTMLButtonElement;
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "what-if-notice" });
  private readonly progress = h("span", { class: "iw-dim", role: "status" });
  private readonly form: HTMLElement;
  private readonly empty = emptyState(
    "Nothing simulated yet",
    "Change a setting and press Simulate: the same scheduler runs the recorded arrivals again.",
  );
  private readonly away = emptyState(
    "The simulator runs in Python",
    "Open this trace with Trace.load(path), then",
    "compare(trace, simulate(trace, max_num_seqs=…))",
  );
  private readonly panel: ComparePanel;
  private policies = "";

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const { session } = context;
    const field = (name: string, hint: string): HTMLInputElement =>
      h("input", {
        type: "number",
        class: "iw-field",
        min: 1,
        step: 1,
        inputmode: "numeric",
        title: hint,
        "data-testid": `what-if-${name}`,
      });
    const option = (value: string, text = value): HTMLElement => h("option", { value }, text);
    this.numbers = {
      max_num_seqs: field(NUMBERS[0][0], NUMBERS[0][2]),
      max_num_batched_tokens: field(NUMBERS[1][0], NUMBERS[1][2]),
      num_gpu_blocks_override: field(NUMBERS[2][0], NUMBERS[2][2]),
    };
    this.policy = h(
      "select",
      { class: "iw-select", "data-testid": "what-if-policy", title: "scheduling_policy" },
      option("", "as it was"),
    );
    this.listPolicies(POLICIES);
    this.caching = h(
      "select",
      { class: "iw-select", "data-testid": "what-if-caching", title: "enable_prefix_caching" },
      option("", "as it was"),
      option("true", "on"),
      option("false", "off"),
    );
    const button = (text: string, id: string, title: string, onclick: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "iw-button", "data-testid": id, title, onclick }, text);
    this.ask = button("Simulate", "what-if-ask", "Run the recorded arrivals under these settings", () => {
      session.whatIf.ask(this.settings(), null);
    });
    this.ask.classList.add("iw-primary");
    this.stop = button("Stop", "what-if-stop", "End the simulation", () => session.whatIf.stop());
    this.form = h(
      "div",
      { class: "iw-toolbar iw-what-if" },
      ...NUMBERS.map(([name, label]) => h("label", {}, h("span", { class: "iw-dim" }, label), this.numbers[name])),
      h("label", {}, h("span", { class: "iw-dim" }, "Policy"), this.policy),
      h("label", {}, h("span", { class: "iw-dim" }, "Prefix cache"), this.caching),
      this.ask,
      this.stop,
      this.progress,
    );
    const body = h("div", { class: "iw-what-if-body" }, this.empty, this.away);
    element.append(this.form, this.note, body);
    this.panel = new ComparePanel(
      body,
      () => context.theme(),
      (step) => session.setCursor(step),
    );
  }

  draw(): void {
    const { session } = this.context;
    const { whatIf, store } = session;
    const { status, head } = store;
    const job = status?.jobs?.what_if;
    // One that another page has asked for, or this page before it was loaded again, can be stopped here too.
    const running = session.kernel && (whatIf.running || job?.state === "running");
    const idle = session.kernel && !running;
    this.listPolicies(status?.policies ?? POLICIES);
    this.form.hidden = !session.kernel;
    for (const control of [...Object.values(this.numbers), this.policy, this.caching]) control.disabled = !idle;
    this.ask.disabled = !idle || store.lastStep === null;
    this.stop.hidden = !running;
    this.numbers.max_num_seqs.placeholder = status === null ? "" : String(status.max_num_seqs);
    this.numbers.max_num_batched_tokens.placeholder = status === null ? "" : String(status.max_num_batched_tokens);
    this.numbers.num_gpu_blocks_override.placeholder = head === null ? "" : String(head.numBlocks);
    const told = job === undefined || job.total === 0 ? "" : ` ${int(job.finished)} of ${int(job.total)} requests`;
    setText(this.progress, running ? `Simulating …${told}` : "");
    setText(this.note, whatIf.failure);
    this.note.dataset["kind"] = whatIf.failure === "" ? "" : "bad";
    this.panel.element.hidden = whatIf.result === null;
    this.away.hidden = session.kernel || whatIf.result !== null;
    this.empty.hidden = !session.kernel || whatIf.result !== null;
    if (whatIf.result !== null) this.panel.draw(whatIf.result);
    session.whatIfSettings = this.settings();
  }

  destroy(): void {
    // The session keeps the answer.
  }

  /** The reader's own policies too, where there is an engine that knows them. */
  private listPolicies(names: readonly string[]): void {
    if (names.join("\n") === this.policies) return;
    this.policies = names.join("\n");
    const chosen = this.policy.value;
    const options = names.map((name) => h("option", { value: name }, name));
    this.policy.replaceChildren(this.policy.options[0]!, ...options);
    this.policy.value = names.includes(chosen) ? chosen : "";
  }

  private settings(): Record<string, unknown> {
    const settings: Record<string, unknown> = {};
    for (const [name] of NUMBERS) {
      const { value } = this.numbers[name];
      if (value !== "") settings[name] = Number(value);
    }
    if (this.policy.value !== "") settings["scheduling_policy"] = this.policy.value;
    if (this.caching.value !== "") settings["enable_prefix_caching"] = this.caching.value === "true";
    return settings;
  }
}

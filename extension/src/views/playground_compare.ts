// The playground with two engines: which other one, how far the comparison is, and the command that starts it.

import { count, int } from "../format.ts";
import type { LockstepProgress } from "../protocol.ts";
import type { Session } from "../session.ts";
import { h, setProperty, setText } from "../ui/dom.ts";
import { QUANTIZATIONS } from "./knobs_model.ts";

const COPY = "copy:";
const ENGINE = "engine:";

export class CompareBar {
  readonly element: HTMLElement;
  readonly legend = h(
    "div",
    { class: "iw-legend iw-duel-legend", "data-testid": "duel-legend" },
    h("span", {}, h("span", { class: "iw-equal" }, "equal")),
    h("span", {}, h("span", { class: "iw-parts" }, "where they part")),
    h("span", {}, h("span", { class: "iw-after" }, "after it")),
  );
  private readonly session: Session;
  private readonly choice = h("select", { class: "iw-select", "data-testid": "compare-against" });
  private readonly told = h("span", { class: "iw-dim", role: "status", "data-testid": "compare-status" });
  private readonly bar = h(
    "div",
    { class: "iw-progress", role: "progressbar", "aria-label": "Tokens compared" },
    h("i"),
  );
  private choicesKey = "";
  private touched = false;

  constructor(session: Session) {
    this.session = session;
    this.choice.addEventListener("change", () => {
      this.touched = true;
      session.touch();
    });
    const label = h("label", {}, h("span", { class: "iw-dim" }, "against"), this.choice);
    this.element = h("div", { class: "iw-toolbar iw-duel-bar" }, label, this.bar, this.told);
  }

  /** True while two engines are being compared, from this page or another one. */
  get running(): boolean {
    return isRunning(this.job);
  }

  /** True where the playground answers with two engines: the reader's word, or there is something to compare with. */
  get shown(): boolean {
    const { store, lockstep } = this.session;
    if (lockstep.wanted !== null) return lockstep.wanted;
    return (store.status?.others ?? []).length > 0 || lockstep.duels.length > 0;
  }

  /** What went wrong in the newest comparison. */
  get failure(): string {
    return this.job?.state === "failed" ? (this.job.message ?? "The comparison failed.") : "";
  }

  start(prompts: string[], maxTokens: number): Promise<unknown> {
    const { value } = this.choice;
    const against = value.startsWith(ENGINE)
      ? { engine: value.slice(ENGINE.length) }
      : { quantization: value.slice(COPY.length) || null };
    return this.session.command("lockstep", { prompts, max_tokens: maxTokens, against });
  }

  stop(): void {
    this.session.command("lockstep_stop", {}).catch(() => undefined);
  }

  draw(): void {
    this.fill();
    this.choice.disabled = !this.session.commandable || this.running;
    const { job } = this;
    this.bar.hidden = !this.running;
    setProperty(this.bar, "--finished", String(job === undefined || job.total === 0 ? 0 : job.done / job.total));
    setText(this.told, job === undefined ? this.promise() : progressText(job) || this.promise());
  }

  private get job(): LockstepProgress | undefined {
    return this.session.store.status?.jobs?.lockstep;
  }

  /** What will happen, before it does. */
  private promise(): string {
    return this.choice.value.startsWith(ENGINE)
      ? "Both answer greedily, token by token."
      : "Both answer greedily, token by token. The copy is loaded for it and given back after it.";
  }

  private fill(): void {
    const { status } = this.session.store;
    const others = status?.others ?? [];
    const inForce = ["quantization", "sparsity"].some((name) => (status?.knobs?.[name]?.[1] ?? null) !== null);
    const kv = (status?.knobs?.["kv_cache_dtype"]?.[0] ?? "auto") !== "auto";
    const key = JSON.stringify([others, inForce || kv]);
    if (key === this.choicesKey) return;
    this.choicesKey = key;
    const before = this.choice.value;
    const copies = QUANTIZATIONS.map((name) =>
      h("option", { value: `${COPY}${name ?? ""}` }, name === null ? "a copy in full precision" : `a copy in ${name}`),
    );
    const live = others.map(([id, label]) => h("option", { value: `${ENGINE}${id}` }, label));
    this.choice.replaceChildren(...live, ...copies);
    const known = [...this.choice.options].some((option) => option.value === before);
    const newest = others.at(-1);
    if (this.touched && known) this.choice.value = before;
    else if (newest !== undefined) this.choice.value = `${ENGINE}${newest[0]}`;
    else this.choice.value = inForce || kv ? COPY : `${COPY}int4`;
  }
}

function isRunning(job: LockstepProgress | undefined): boolean {
  return job?.state === "loading" || job?.state === "running";
}

/** How far a comparison is, in words. */
export function progressText(job: LockstepProgress): string {
  if (job.state === "loading") {
    return job.stopping ? "Stopping, once the copy is loaded …" : "Loading the copy …";
  }
  const places = `${int(job.done)} of at most ${count(job.total, "token")}`;
  if (job.state === "running") {
    if (job.stopping) return "Stopping …";
    if (job.paused === 0) return `${places}. This engine is paused: resume or step to go on.`;
    if (job.paused === 1) return `${places}. The other engine is paused: resume it to go on.`;
    return places;
  }
  if (job.state !== "stopped") return "";
  const why = job.message === null ? "Stopped." : `Stopped: ${job.message}.`;
  return `${why} What was compared until then is shown.`;
}

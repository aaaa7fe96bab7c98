// Controls: run, pause and step the engine, move in time, turn its knobs.

import { int, percent, rate } from "../format.ts";
import type { CommandArgs, CommandName, EngineMode } from "../protocol.ts";
import type { Session } from "../session.ts";
import type { TraceEvent } from "../trace_types.ts";
import { h, setAttribute, setText, setValue } from "../ui/dom.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { breakpointPicker, stopReason } from "./breakpoints.ts";
import { positionOf, SLIDER_MAX, speedAt } from "./speed.ts";
import { scrubberView } from "./scrubber.ts";

const EVENT_NAMES: Record<TraceEvent["kind"], string> = {
  arrival: "arrival",
  admitted: "admission",
  preempted: "preemption",
  finished: "end of a request",
  evicted: "eviction",
  copied: "copy-on-write",
  changed: "changed setting",
  stalled: "stall",
};

const STALL_HINT = "a step that kept somebody who runs from a token, or took 3 times as long as usual";

export function controlsView(element: HTMLElement, context: ViewContext): View {
  return new ControlsView(element, context);
}

class ControlsView implements View {
  private readonly session: Session;
  private readonly scrubber: View;
  private readonly pill = h("span", { class: "iw-pill", role: "status", "data-testid": "state" });
  private readonly engine = h("span", { class: "iw-engine" });
  private readonly toggle: HTMLButtonElement;
  private readonly step: HTMLButtonElement;
  private readonly stepCount: HTMLInputElement;
  private readonly speed: HTMLInputElement;
  private readonly speedText = h("output", { class: "iw-speed-text" });
  private readonly live: HTMLButtonElement;
  private readonly position = h("output", { class: "iw-position", "data-testid": "position" });
  private readonly stats: Record<"rate" | "kv" | "running" | "waiting", HTMLElement>;
  private readonly knobs: Record<"max_num_seqs" | "max_num_batched_tokens", HTMLInputElement>;
  private readonly apply: HTMLButtonElement;
  private readonly policy: HTMLSelectElement;
  private readonly play: HTMLButtonElement;
  private readonly eventKind: HTMLSelectElement;
  private readonly why: HTMLButtonElement;
  /** The policy that was asked for, until the engine has answered. */
  private wantedPolicy: string | null = null;
  private readonly breakpoints: ReturnType<typeof breakpointPicker>;
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "notice" });
  private readonly commandables: (HTMLButtonElement | HTMLInputElement)[];
  private failure = "";
  /** Where the reader has put the slider, until the engine has answered. */
  private wantedSpeed: number | null = null;
  private speedTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.session = context.session;
    const { session } = this;
    this.toggle = button("", "Pause (space)", "pause", () => toggleRunning(session, this.run));
    this.toggle.classList.add("iw-primary");
    this.step = button("▸ Step", "Run this many steps and pause (.)", "step", () => this.doStep());
    this.stepCount = numberField("Steps to run", 1, 10_000, "step-count");
    this.stepCount.value = "1";
    this.speed = h("input", {
      type: "range",
      min: 0,
      max: SLIDER_MAX,
      step: 1,
      "aria-label": "Speed",
      title: "Slow motion: how many steps a second the engine may take",
      "data-testid": "speed",
    });
    this.speed.addEventListener("input", () => this.doSpeed());
    this.live = button("Live", "Follow the engine", "live", () => session.setCursor("live"));
    this.stats = { rate: h("b"), kv: h("b"), running: h("b"), waiting: h("b") };
    this.knobs = {
      max_num_seqs: numberField("max_num_seqs: most requests in a batch", 1, 4096, "max-num-seqs"),
      max_num_batched_tokens: numberField(
        "max_num_batched_tokens: token budget of a step",
        1,
        1_048_576,
        "token-budget",
      ),
    };
    for (const field of Object.values(this.knobs)) {
      field.addEventListener("input", () => this.markChanged());
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter") this.doConfigure();
      });
    }
    this.apply = button("Apply", "Use these limits from the next step on", "apply", () => this.doConfigure());
    this.breakpoints = breakpointPicker(session, this.run);
    const scrub = h("div", { class: "iw-scrub" });
    this.scrubber = scrubberView(scrub, context);
    const stat = (name: keyof typeof this.stats, unit: string, title: string): HTMLElement =>
      h("span", { class: "iw-stat", title, "data-testid": `stat-${name}` }, this.stats[name], unit);
    const jump = (text: string, by: 1 | -1, id: string, key: string): HTMLButtonElement =>
      button(text, `${by < 0 ? "Previous" : "Next"} moment of this kind (${key})`, id, () => {
        this.failure = session.jump(by)
          ? ""
          : by > 0
            ? "No later moment of this kind."
            : "No earlier moment of this kind.";
        context.invalidate();
      });
    this.play = button("▷", "Play what was recorded (p)", "play", () => session.playback.toggle());
    this.eventKind = h(
      "select",
      {
        class: "iw-select",
        title: `What to jump to; a stall is ${STALL_HINT}`,
        "aria-label": "Jump to",
        "data-testid": "event-kind",
        onchange: () => (session.eventKind = (this.eventKind.value || null) as TraceEvent["kind"] | null),
      },
      h("option", { value: "" }, "any event"),
      ...Object.entries(EVENT_NAMES).map(([kind, name]) => h("option", { value: kind }, name)),
    );
    this.policy = h("select", {
      class: "iw-select",
      title: "Scheduling policy: who goes first, and who gives way",
      "aria-label": "Scheduling policy",
      "data-testid": "policy",
      onchange: () => this.doPolicy(),
    });
    this.why = button("", "Go to what is told about the picked request", "go-to-why", () => {
      const story = element.closest(".iw")?.querySelector(".iw-story");
      story?.scrollIntoView({ block: "nearest", behavior: "instant" });
    });
    element.append(
      h(
        "div",
        { class: "iw-controls", "data-testid": "controls" },
        h(
          "div",
          { class: "iw-row" },
          this.pill,
          this.engine,
          h("span", { class: "iw-group" }, this.toggle, h("span", { class: "iw-joined" }, this.step, this.stepCount)),
          this.breakpoints.select,
          h(
            "label",
            { class: "iw-group iw-speed" },
            h("span", { class: "iw-dim" }, "Speed"),
            this.speed,
            this.speedText,
          ),
          h(
            "span",
            { class: "iw-stats" },
            stat("rate", "tok/s", "Tokens sampled per second"),
            stat("kv", "KV used", "Share of the KV blocks that requests hold"),
            stat("running", "running", "Requests in the batch"),
            stat("waiting", "waiting", "Requests in the queue"),
          ),
        ),
        h(
          "div",
          { class: "iw-row" },
          h("span", { class: "iw-break-line" }),
          h("span", { class: "iw-group" }, this.live, this.position, this.why),
          h(
            "span",
            { class: "iw-joined" },
            button("‹", "One step back in time (,)", "step-back", () => session.moveCursor(-1)),
            this.play,
            button("›", "One step forward in time (.)", "step-forward", () => session.moveCursor(1)),
          ),
          h(
            "span",
            { class: "iw-joined" },
            jump("◂", -1, "previous-event", "["),
            this.eventKind,
            jump("▸", 1, "next-event", "]"),
          ),
          scrub,
          h(
            "span",
            { class: "iw-group iw-knobs" },
            h("label", {}, h("span", { class: "iw-dim" }, "Seqs"), this.knobs.max_num_seqs),
            h("label", {}, h("span", { class: "iw-dim" }, "Budget"), this.knobs.max_num_batched_tokens),
            this.apply,
            h("label", {}, h("span", { class: "iw-dim" }, "Policy"), this.policy),
          ),
        ),
        this.breakpoints.list,
        this.note,
      ),
    );
    this.commandables = [this.toggle, this.step, this.stepCount, this.speed, ...Object.values(this.knobs)];
  }

  draw(): void {
    const { session } = this;
    const { store, cursor, commandable } = session;
    const status = store.status;
    const mode = shownMode(session);
    setText(this.pill, MODE_NAMES[mode]);
    setAttribute(this.pill, "data-mode", mode);
    const { info } = store;
    setText(this.engine, info === null ? "" : `${info.model} · ${info.device} · ${info.dtype}`);
    this.engine.title =
      info === null
        ? ""
        : Object.entries(info.settings)
            .map(([k, [a, b]]) => `${k}: ${b} (asked: ${a})`)
            .join("\n");
    for (const control of this.commandables) control.disabled = !commandable;
    const paused = status?.state === "paused";
    setText(this.toggle, paused ? "▶ Resume" : "▮▮ Pause");
    this.toggle.title = paused ? "Go on (space)" : "Pause before the next step (space)";
    setAttribute(this.toggle, "data-testid", paused ? "resume" : "pause");
    setValue(this.speed, String(this.wantedSpeed ?? positionOf(status?.speed ?? null)));
    setText(this.speedText, rate(speedAt(Number(this.speed.value))));
    setAttribute(this.live, "aria-pressed", String(cursor === "live"));
    const at = cursor === "live" ? (store.head?.step ?? status?.step ?? -1) : cursor;
    const happened = cursor === "live" ? [] : store.events.filter((e) => e.step === cursor);
    setText(this.position, at < 0 ? "no steps yet" : `step ${int(at)}`);
    this.position.title = happened.map((e) => EVENT_NAMES[e.kind]).join(", ");
    this.position.classList.toggle("iw-past", cursor !== "live");
    setText(this.play, session.playback.playing ? "▮▮" : "▷");
    setAttribute(this.play, "aria-pressed", String(session.playback.playing));
    setValue(this.eventKind, session.eventKind ?? "");
    this.why.hidden = session.selection.request === null;
    setText(this.why, `why ${session.selection.request ?? ""}?`);
    this.drawStats();
    this.drawKnobs();
    this.drawPolicy();
    this.breakpoints.draw();
    setText(this.note, session.problem ?? (this.failure || session.unanswered || modeNote(session, mode)));
    const bad = session.problem !== null || this.failure !== "" || mode === "error" || mode === "lost";
    const stopped = mode === "paused" && (status?.message ?? null) !== null;
    this.note.dataset["kind"] = bad ? "bad" : stopped ? "stop" : "";
    this.scrubber.draw();
  }

  destroy(): void {
    clearTimeout(this.speedTimer);
    this.scrubber.destroy();
    if (this.session.playback.playing) this.session.playback.stop();
  }

  private drawStats(): void {
    const { store, cursor } = this.session;
    const state = store.stateAt(cursor);
    const idle = cursor === "live" && store.status?.state !== "running";
    setText(this.stats.rate, idle ? "0" : int(store.tokensPerSecond(cursor)));
    setText(this.stats.kv, state === null ? "–" : percent(state.numUsed / state.numBlocks));
    setText(this.stats.running, state === null ? "–" : int(state.running.length));
    setText(this.stats.waiting, state === null ? "–" : int(state.waiting.length));
  }

  private drawKnobs(): void {
    const status = this.session.store.status;
    for (const name of ["max_num_seqs", "max_num_batched_tokens"] as const) {
      const field = this.knobs[name];
      if (status !== null && document.activeElement !== field && field.dataset["changed"] === undefined) {
        setValue(field, String(status[name]));
      }
    }
    this.markChanged();
  }

  private drawPolicy(): void {
    const { status } = this.session.store;
    const now = status?.scheduling_policy;
    (this.policy.parentElement as HTMLElement).hidden = now === undefined;
    if (now === undefined) return;
    const names = status?.policies ?? [];
    if (names.join("\n") !== Array.from(this.policy.options, (o) => o.value).join("\n")) {
      this.policy.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    }
    setValue(this.policy, this.wantedPolicy ?? now);
    this.policy.disabled = !this.session.commandable;
  }

  private doPolicy(): void {
    this.wantedPolicy = this.policy.value;
    // A refused policy leaves the one before it in force, and the next draw shows that one.
    this.run("configure", { scheduling_policy: this.policy.value }, () => {
      this.wantedPolicy = null;
      this.draw();
    });
  }

  private markChanged(): void {
    const status = this.session.store.status;
    let any = false;
    for (const name of ["max_num_seqs", "max_num_batched_tokens"] as const) {
      const field = this.knobs[name];
      const changed = status !== null && field.value !== "" && Number(field.value) !== status[name];
      if (changed) field.dataset["changed"] = "";
      else delete field.dataset["changed"];
      any ||= changed;
    }
    this.apply.disabled = !any || !this.session.commandable;
  }

  private readonly run = <N extends CommandName>(name: N, args: CommandArgs[N], answered?: () => void): void => {
    this.session
      .command(name, args)
      .then(
        () => this.fail(""),
        (error: Error) => this.fail(error.message),
      )
      .finally(answered);
  };

  private fail(message: string): void {
    this.failure = message;
    this.draw();
  }

  private doStep(): void {
    const n = Math.max(1, Math.floor(Number(this.stepCount.value) || 1));
    this.session.setCursor("live");
    this.run("step", { n });
  }

  private doSpeed(): void {
    const wanted = Number(this.speed.value);
    this.wantedSpeed = wanted;
    setText(this.speedText, rate(speedAt(wanted)));
    // A dragged slider fires for every pixel; the engine needs to hear where it ends up.
    clearTimeout(this.speedTimer);
    this.speedTimer = setTimeout(() => {
      this.run("set_speed", { steps_per_second: speedAt(wanted) }, () => {
        // The next frame brings the engine's own figure; before it the slider must not jump back.
        setTimeout(() => {
          if (this.wantedSpeed === wanted) this.wantedSpeed = null;
        }, 1_500);
      });
    }, 120);
  }

  private doConfigure(): void {
    const args: CommandArgs["configure"] = {};
    for (const name of ["max_num_seqs", "max_num_batched_tokens"] as const) {
      const field = this.knobs[name];
      if (field.dataset["changed"] !== undefined) args[name] = Number(field.value);
    }
    if (Object.keys(args).length > 0) this.run("configure", args);
  }
}

type ShownMode = EngineMode | "connecting" | "lost" | "saved";

const MODE_NAMES: Record<ShownMode, string> = {
  running: "running",
  idle: "idle",
  paused: "paused",
  closed: "shut down",
  error: "failed",
  connecting: "connecting",
  lost: "disconnected",
  saved: "saved trace",
};

export function shownMode(session: Session): ShownMode {
  if (session.connection === "lost") return "lost";
  if (session.connection === "connecting") return "connecting";
  if (!session.interactive) return "saved";
  return session.store.status?.state ?? "connecting";
}

function modeNote(session: Session, mode: ShownMode): string {
  switch (mode) {
    case "lost":
      return "The kernel is gone or restarting. What was recorded stays here; run the cell again for a new engine.";
    case "closed":
      return "This engine was shut down. Its trace stays here to look at.";
    case "connecting":
      return "Connecting to the engine…";
    case "saved":
      return "";
    default: {
      const { status } = session.store;
      if (status === null) return "";
      if (status.message !== null) return mode === "paused" ? stopReason(status) : status.message;
      if (session.store.policyNotice !== null) return `The ${session.store.policyNotice}.`;
      // Neither the kernel's trace nor a page keeps a long run whole.
      const first = session.store.firstStep ?? 0;
      return first > 0 && session.cursor !== "live"
        ? `The steps from ${int(first)} on are kept; older ones are not.`
        : "";
    }
  }
}

/** What a view without controls says of an engine that does not answer, or "". */
export function awayNote(session: Session): string {
  const mode = shownMode(session);
  return mode === "lost" || mode === "closed" || mode === "error" ? modeNote(session, mode) : "";
}

export function toggleRunning(
  session: Session,
  run: <N extends CommandName>(name: N, args: CommandArgs[N]) => void,
): void {
  if (session.store.status?.state === "paused") {
    session.setCursor("live");
    run("resume", {});
  } else {
    run("pause", {});
  }
}

function button(text: string, title: string, id: string, click: () => void): HTMLButtonElement {
  return h("button", { type: "button", class: "iw-button", title, "data-testid": id, onclick: click }, text);
}

function numberField(label: string, min: number, max: number, id: string): HTMLInputElement {
  return h("input", {
    type: "number",
    class: "iw-field",
    min,
    max,
    step: 1,
    inputmode: "numeric",
    title: label,
    "aria-label": label,
    "data-testid": id,
  });
}

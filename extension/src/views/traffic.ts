// Traffic: made from a seed, shown before it is sent, sent to the running engine.

import { count, int, seconds } from "../format.ts";
import type { Arrivals, PreviewResult } from "../protocol.ts";
import { h, setProperty, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { numberField } from "../ui/field.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { ARRIVAL_FIELDS, COMMON_FIELDS, recipeOf, stemCard, stems } from "./traffic_recipe.ts";

/** A number that is being typed is not asked about with every key, in ms. */
const PREVIEW_AFTER = 250;

/** Left and right of the stems, in px. */
const SIDES = [74, 10] as const;

export function trafficView(element: HTMLElement, context: ViewContext): View {
  return new TrafficView(element, context);
}

class TrafficView implements View {
  private readonly context: ViewContext;
  private readonly inputs = new Map<string, HTMLInputElement>();
  private readonly groups = new Map<Arrivals, HTMLElement>();
  private readonly lengths: HTMLSelectElement;
  private readonly start: HTMLButtonElement;
  private readonly stop: HTMLButtonElement;
  private readonly simulate: HTMLButtonElement;
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "traffic-notice" });
  private readonly words = h("div", { class: "iw-dim", "data-testid": "traffic-preview" });
  private readonly progress = h(
    "div",
    { class: "iw-progress", role: "progressbar", "aria-label": "Requests sent" },
    h("i", {}),
  );
  private readonly told = h("div", { role: "status", "data-testid": "traffic-progress" });
  private readonly form: HTMLElement;
  private readonly away = emptyState(
    "No engine to send to",
    "Traffic is sent to a running engine; this is a saved trace.",
  );
  private readonly surface: Surface;
  private arrivals: Arrivals = "poisson";
  private shown: readonly unknown[] = [];
  private preview: PreviewResult | null = null;
  private failure = "";
  private asked = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const changed = (): void => this.askLater();
    const make = (field: (typeof COMMON_FIELDS)[number]): HTMLElement => {
      const { element: label, input } = numberField({ ...field, id: `traffic-${field.name}` }, changed);
      this.inputs.set(field.name, input);
      return label;
    };
    for (const [arrivals, fields] of Object.entries(ARRIVAL_FIELDS)) {
      this.groups.set(arrivals as Arrivals, h("span", { class: "iw-group iw-wrap" }, ...fields.map(make)));
    }
    this.lengths = h(
      "select",
      {
        class: "iw-select",
        title: "How lengths lie between their limits",
        "aria-label": "How lengths lie between their limits",
        "data-testid": "traffic-lengths",
        onchange: changed,
      },
      h("option", { value: "uniform" }, "evenly"),
      h("option", { value: "lognormal" }, "many short, few long"),
    );
    const button = (text: string, id: string, title: string, onclick: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "iw-button", "data-testid": id, title, onclick }, text);
    this.start = button("Send", "traffic-start", "Send this traffic to the engine", () => this.run("traffic_start"));
    this.start.classList.add("iw-primary");
    this.stop = button("Stop", "traffic-stop", "Send nothing more and cancel what is on its way", () =>
      this.run("traffic_stop"),
    );
    this.simulate = button(
      "What would the simulator say?",
      "traffic-simulate",
      "Simulate this traffic under the engine's settings and under those of the what-if view",
      () => context.session.whatIf.ask(context.session.whatIfSettings, this.recipe()),
    );
    const kinds = segmented(
      "Arrivals",
      [
        ["poisson", "Poisson", "Independent users"],
        ["bursts", "bursts", "Many at once, every few seconds"],
        ["closed_loop", "closed loop", "Users who wait for their answer"],
      ],
      this.arrivals,
      (value) => {
        this.arrivals = value;
        this.askLater(0);
        context.invalidate();
      },
    );
    const fields = h(
      "div",
      {},
      h("div", { class: "iw-toolbar iw-what-if" }, kinds, ...this.groups.values()),
      h(
        "div",
        { class: "iw-toolbar iw-what-if" },
        ...COMMON_FIELDS.flatMap((field, i) => {
          if (COMMON_FIELDS[i - 1]?.joined === true) return [];
          const next = field.joined === true ? [make(COMMON_FIELDS[i + 1]!)] : [];
          return [h("span", { class: "iw-pair" }, make(field), ...next)];
        }),
        h("label", {}, h("span", { class: "iw-dim" }, "Lengths"), this.lengths),
      ),
    );
    const stage = h("div", { class: "iw-stage iw-preview" });
    const actions = h("div", { class: "iw-toolbar" }, this.start, this.stop, this.simulate, this.progress, this.told);
    fields.append(actions, this.note);
    const picture = h("div", { class: "iw-traffic-picture" }, stage, h("div", { class: "iw-toolbar" }, this.words));
    this.form = h("div", { class: "iw-traffic" }, fields, picture);
    element.append(this.form, this.away);
    this.surface = new Surface(stage, "Arrivals and lengths of the traffic that will be sent", context.invalidate);
    const card = new HoverCard(stage);
    stage.addEventListener("pointermove", (event) => {
      const { preview, surface } = this;
      const place = (surface.locate(event).x - SIDES[0]) / (surface.width - SIDES[0] - SIDES[1]);
      if (preview === null || preview.requests.length === 0 || place < -0.02) card.hide();
      else card.show(event, stemCard(preview.requests, place));
    });
    stage.addEventListener("pointerleave", () => card.hide());
  }

  draw(): void {
    const { session } = this.context;
    this.form.hidden = !session.interactive && session.connection === "live";
    this.away.hidden = !this.form.hidden;
    if (this.form.hidden) return;
    for (const [arrivals, group] of this.groups) group.hidden = arrivals !== this.arrivals;
    if (session.commandable && this.asked === 0) this.askLater(0);
    const job = session.store.status?.jobs?.traffic;
    const running = job?.state === "running";
    this.start.disabled = !session.commandable || running || this.preview === null;
    this.stop.disabled = !session.commandable || !running;
    this.simulate.disabled = !session.commandable || session.whatIf.running || this.preview === null;
    this.progress.hidden = job === undefined;
    if (job !== undefined) {
      setProperty(this.progress, "--sent", String(job.sent / job.total));
      setProperty(this.progress, "--finished", String(job.finished / job.total));
      const text = `${int(job.sent)} of ${int(job.total)} sent, ${int(job.sent - job.finished)} on their way, ${int(job.finished)} finished`;
      setText(this.told, running ? text : `${text} (${job.state}${job.message === null ? "" : `: ${job.message}`})`);
    }
    setText(this.note, this.failure);
    this.note.dataset["kind"] = this.failure === "" ? "" : "bad";
    this.drawPreview();
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.surface.destroy();
  }

  private recipe(): ReturnType<typeof recipeOf> {
    return recipeOf(this.arrivals, this.lengths.value, (name) => Number(this.inputs.get(name)!.value));
  }

  private run(name: "traffic_start" | "traffic_stop"): void {
    const { session } = this.context;
    const sent =
      name === "traffic_start" ? session.command(name, { recipe: this.recipe() }) : session.command(name, {});
    sent.then(
      () => this.fail(""),
      (error: Error) => this.fail(error.message),
    );
  }

  private askLater(after = PREVIEW_AFTER): void {
    const number = ++this.asked;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.context.session.command("traffic_preview", { recipe: this.recipe() }).then(
        (preview) => {
          if (number !== this.asked) return;
          this.preview = preview;
          this.fail("");
        },
        (error: Error) => {
          if (number !== this.asked) return;
          this.preview = null;
          this.fail(error.message);
        },
      );
    }, after);
  }

  private fail(message: string): void {
    this.failure = message;
    this.context.invalidate();
  }

  /** Stems at the arrivals: prompt tokens upwards, output tokens downwards. */
  private drawPreview(): void {
    const { preview, surface } = this;
    const theme = this.context.theme();
    // It stays as it is while the engine works on: a canvas's text costs a layout of the whole page.
    const shows = [preview, theme, surface.width, surface.height, devicePixelRatio];
    if (preview !== null && shows.every((part, i) => part === this.shown[i])) return;
    this.shown = shows;
    const pen = surface.begin();
    if (preview === null) {
      const waiting = this.context.session.commandable ? "Making the traffic …" : "No engine answers now.";
      setText(this.words, this.failure === "" ? waiting : "");
      return;
    }
    const { requests } = preview;
    const open = requests.every(([, after]) => after === null);
    const last = Math.max(...requests.map(([time]) => time));
    const urgent = stems(requests).filter((stem) => stem.urgent).length;
    const span = open ? ` within ${seconds(last)}` : ", each after the answer before it";
    setText(
      this.words,
      `${count(requests.length, "request")}${span}: ${count(preview.num_prompt_tokens, "prompt token")}, ` +
        `${count(preview.num_output_tokens, "output token")}${urgent === 0 ? "" : `, ${int(urgent)} urgent (red mark)`}. ` +
        `Seed ${this.inputs.get("seed")!.value}.`,
    );
    const { width, height } = surface;
    const [[left, right], top, bottom] = [SIDES, 8, 16];
    const drawn = stems(requests);
    const most = [Math.max(...drawn.map((s) => s.prompt)), Math.max(...drawn.map((s) => s.output))] as const;
    const room = height - top - bottom;
    const axis = top + (room * most[0]) / (most[0] + most[1]);
    const scale = room / (most[0] + most[1]);
    const thick = Math.max(1.5, Math.min(7, (0.6 * (width - left - right)) / drawn.length));
    for (const stem of drawn) {
      const x = left + thick / 2 + stem.x * (width - left - right - thick) - thick / 2;
      pen.fillStyle = theme.prefill;
      pen.fillRect(x, axis - stem.prompt * scale, thick, stem.prompt * scale);
      pen.fillStyle = theme.decode;
      pen.fillRect(x, axis + 1, thick, stem.output * scale);
      if (!stem.urgent) continue;
      pen.fillStyle = theme.danger;
      pen.fillRect(x - 1, axis - stem.prompt * scale - 4, thick + 2, 3);
    }
    pen.fillStyle = theme.fg3;
    pen.font = `11px ${theme.font}`;
    pen.textAlign = "left";
    pen.fillText(`${int(most[0])} tok in`, 4, top + 9);
    pen.fillText(`${int(most[1])} tok out`, 4, height - bottom);
    pen.fillRect(left, axis, width - left - right, 1);
    pen.textAlign = "right";
    if (open) pen.fillText(seconds(last), width - right, height - 3);
    pen.textAlign = "left";
    pen.fillText(open ? "0 s" : "in order", left, height - 3);
  }
}

// What is told under the selected request's row: where its time went, why, and what can be done about it.

import { int, seconds } from "../format.ts";
import type { Cause, CommandArgs, CommandName } from "../protocol.ts";
import { reasonLabel } from "../reasons.ts";
import { h, setAttribute, setText, setValue } from "../ui/dom.ts";
import type { ViewContext } from "../ui/stage.ts";
import { lastStepAt, type RequestInfo } from "../trace_types.ts";
import type { RequestRow } from "./request_rows.ts";
import type { HoverCard } from "../ui/hover_card.ts";
import { waterfall, type WaterfallSegment } from "../waterfall.ts";
import { type StoryPart, tellStory } from "./request_story.ts";
import { tokenWhy } from "./token_why.ts";
import { Waterfall, waterfallColour } from "./waterfall.ts";
import type { WaterfallRow } from "./waterfall_rows.ts";
import { WhyQuestion } from "./why_question.ts";

export class RequestDetail {
  readonly element: HTMLTableRowElement;
  private readonly context: ViewContext;
  private readonly question: WhyQuestion;
  private readonly bar = h("div", { class: "iw-story-bar", role: "img" });
  private readonly words = h("p");
  private readonly picture: Waterfall;
  private readonly token = h("ol", { class: "iw-causes", "data-testid": "token-why" });
  private readonly why = h("ol", { class: "iw-causes", "data-testid": "why" });
  private readonly front: HTMLButtonElement;
  private readonly cancel: HTMLButtonElement;
  private readonly priority: HTMLInputElement;
  private readonly failure = h("span", { class: "iw-bad", role: "alert" });
  private readonly actions: HTMLElement;
  private shown: RequestInfo | null = null;
  private causes: readonly Cause[] | null = null;
  private segments: readonly WaterfallSegment[] = [];
  private segmentsOf = "";
  private tokenShown = "";

  constructor(context: ViewContext, columns: number, card: HoverCard) {
    this.context = context;
    this.picture = new Waterfall({
      card,
      visit: (step) => context.session.setCursor(step),
      colour: (row) => this.colourOf(row),
    });
    this.question = new WhyQuestion(context.session, context.invalidate);
    this.front = this.button("Move to front", "Ahead of all others of its priority", "move-to-front");
    this.cancel = this.button("Cancel", "End this request, with all its sequences", "cancel");
    const title = "Lower values run first under the priority policy";
    this.priority = h("input", {
      type: "number",
      class: "iw-field",
      step: 1,
      title,
      "data-testid": "priority",
      onchange: () => this.doPriority(),
      // JupyterLab takes Enter for itself, so that the field does not see its own change.
      onkeydown: (event: KeyboardEvent) => {
        if (event.key === "Enter") this.priority.blur();
      },
    });
    const priority = h(
      "label",
      { class: "iw-group", title },
      h("span", { class: "iw-dim" }, "Priority"),
      this.priority,
    );
    this.actions = h("div", { class: "iw-actions" }, this.front, priority, this.cancel, this.failure);
    const sentences = h("div", { class: "iw-sentences" }, this.words, this.token, this.why);
    const beside = h("div", { class: "iw-beside" }, this.picture.element, sentences);
    const told = h("div", { class: "iw-told" }, this.bar, beside, this.actions);
    this.element = h("tr", { class: "iw-story", "data-testid": "story" }, h("td", { colspan: columns }, told));
  }

  /** Show a request, or nothing; false if there is nothing to show. */
  draw(row: RequestRow | undefined): boolean {
    if (this.shown !== (row?.info ?? null)) setText(this.failure, "");
    this.shown = row?.info ?? null;
    this.question.follow(this.shown?.id ?? null);
    if (row === undefined) return false;
    const { store, cursor } = this.context.session;
    const limit = lastStepAt(cursor);
    const { parts, sentences } = tellStory(row.info, limit, store.timeAt(cursor));
    this.drawBar(row.info, parts, sentences.join(" "));
    this.drawPicture(row.info);
    this.drawToken(row.info);
    this.drawCauses(limit);
    this.words.hidden = this.causes !== null || sentences.length === 0;
    setText(this.words, sentences.join(" "));
    this.drawActions(row.info);
    return parts.length > 0 || this.causes !== null || !this.actions.hidden;
  }

  /** Whose story is told and with what: where it changes, the element has another height. */
  get content(): string {
    return `${this.shown?.id ?? ""} ${this.causes?.length ?? 0} ${this.tokenShown}`;
  }

  destroy(): void {
    this.question.stop();
  }

  private drawPicture(info: RequestInfo): void {
    const { store, cursor } = this.context.session;
    const first = info.tokens[0];
    const complete = first !== undefined && first.step >= 0;
    // With its first token the picture is final; until then it grows with every step.
    const state = `${info.id} ${complete ? "complete" : (info.ending?.step ?? store.lastStep)} ${store.firstStep}`;
    if (state !== this.segmentsOf) {
      this.segmentsOf = state;
      this.segments = waterfall(info, store.steps, Math.max(0, store.indexOf(info.arrivalStep)));
    }
    this.picture.element.hidden = this.segments.length === 0;
    this.picture.draw({ segments: this.segments, complete }, cursor);
  }

  private colourOf(row: WaterfallRow): string {
    const theme = this.context.theme();
    return waterfallColour(theme, row, (id) => {
      const request = id === "" ? this.shown : (this.context.session.store.requests.get(id) ?? null);
      return request === null ? theme.fg3 : theme.request(request.colour);
    });
  }

  private drawToken(info: RequestInfo): void {
    const { session } = this.context;
    const { selection } = session;
    const index = selection.request === info.id ? selection.token : null;
    const told = index === null ? null : tokenWhy(session.store, info, index);
    this.token.hidden = told === null;
    const text = told === null ? "" : `${told.step} ${told.text}`;
    if (text === this.tokenShown) return;
    this.tokenShown = text;
    this.token.replaceChildren(...(told === null ? [] : [this.cause([told.text, told.step])]));
  }

  private drawBar(info: RequestInfo, parts: readonly StoryPart[], label: string): void {
    const theme = this.context.theme();
    const colour = theme.request(info.colour);
    const total = parts.reduce((sum, part) => sum + part.seconds, 0);
    this.bar.hidden = parts.length === 0;
    this.bar.replaceChildren(
      ...parts.map((part) => {
        const kind = part.action === "decode" ? "solid" : part.action === "prefill" ? "prefill" : "wait";
        const swatch = part.action === "wait" ? theme.reason(part.reason) : colour;
        const name = part.action === "wait" ? `waits for ${reasonLabel(part.reason)}` : part.action;
        return h("i", {
          class: `iw-swatch iw-${kind}`,
          style: `flex-grow:${(1000 * part.seconds) / total};--swatch:${swatch}`,
          title: `${name}, ${seconds(part.seconds)}`,
        });
      }),
    );
    setAttribute(this.bar, "aria-label", label);
  }

  /** The causes tell the whole life, also with the cursor in the past: what comes after it is dimmed. */
  private drawCauses(limit: number): void {
    const { session } = this.context;
    if (this.causes !== this.question.causes) {
      this.causes = this.question.causes;
      this.why.replaceChildren(...(this.causes ?? []).map((cause) => this.cause(cause)));
    }
    this.why.hidden = this.causes === null;
    this.causes?.forEach(([, step], i) => {
      const item = this.why.children[i]!;
      item.classList.toggle("iw-future", step !== null && step > limit);
      const button = item.querySelector("button");
      if (button === null || step === null) return;
      button.disabled = step < (session.store.firstStep ?? 0);
      setAttribute(button, "aria-pressed", String(session.cursor === step));
    });
  }

  private cause([text, step]: Cause): HTMLLIElement {
    const { session } = this.context;
    const at =
      step === null
        ? null
        : h(
            "button",
            {
              type: "button",
              class: "iw-button",
              title: "Move the time cursor to this step",
              onclick: () => session.setCursor(step),
            },
            `step ${int(step)}`,
          );
    return h("li", {}, h("span", {}, at), h("span", {}, text));
  }

  /** Commands change what is now, so they are not offered while the past is shown. */
  private drawActions(info: RequestInfo): void {
    const { session } = this.context;
    const { head } = session.store;
    const place = head?.waiting.indexOf(info.id) ?? -1;
    this.actions.hidden = info.ending !== null || session.cursor !== "live" || !session.commandable;
    this.front.hidden = place < 0;
    this.front.disabled = place === 0;
    if (document.activeElement !== this.priority) setValue(this.priority, String(info.priority));
  }

  private doPriority(): void {
    const priority = this.priority.valueAsNumber;
    if (this.shown === null || !Number.isInteger(priority)) {
      setText(this.failure, "A priority is a whole number.");
      return;
    }
    this.run("set_priority", { request_id: this.shown.parentId, priority });
  }

  private run<N extends CommandName>(name: N, args: CommandArgs[N]): void {
    this.context.session.command(name, args).then(
      () => setText(this.failure, ""),
      (error: Error) => setText(this.failure, error.message),
    );
  }

  private button(text: string, title: string, id: "move-to-front" | "cancel"): HTMLButtonElement {
    const onclick = (): void => {
      if (this.shown === null) return;
      this.run(id === "cancel" ? "cancel" : "move_to_front", { request_id: this.shown.parentId });
    };
    return h("button", { type: "button", class: "iw-button", title, "data-testid": id, onclick }, text);
  }
}

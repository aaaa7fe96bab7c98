// Puts one view, or the dashboard of all of them, into an element.

import type { ComparisonData } from "./protocol.ts";
import type { Session } from "./session.ts";
import styles from "./theme.css";
import { h, isTextInput, setAttribute, setText } from "./ui/dom.ts";
import { Stage } from "./ui/stage.ts";
import { followTheme, type Theme } from "./ui/theme.ts";
import { ComparePanel } from "./views/compare.ts";
import { awayNote, shownMode, toggleRunning } from "./views/controls.ts";
import { DASHBOARD, isViewName, type ViewName, VIEWS } from "./views/index.ts";

/** Show `view` ("dashboard" or a view's name) of a session; height in pixels, 0 for the view's own. */
export function mount(session: Session, view: string, element: HTMLElement, height = 0): () => void {
  const root = h("div", {
    class: "iw",
    tabindex: "-1",
    "data-view": view,
    "data-testid": `workbench-${view}`,
  });
  const style = h("style", {}, styles);
  element.append(style, root);
  const stage = new Stage(session, root);
  const names: readonly ViewName[] = view === "dashboard" ? DASHBOARD : isViewName(view) ? [view] : [];
  if (names.length === 0) root.append(h("p", { class: "iw-note", role: "alert" }, `There is no view “${view}”.`));
  if (height > 0) root.style.setProperty("--iw-height", `${height}px`);
  const grid = h("div", { class: "iw-grid" });
  // Where the controls are not there to say it.
  const away = h("div", { class: "iw-note iw-away", role: "alert", "data-kind": "bad", "data-testid": "away" });
  root.append(away, grid);
  for (const name of names) {
    const kind = VIEWS[name];
    const body = h("div", { class: "iw-body" });
    const folded = view === "dashboard" && kind.folded === true;
    const panel = h(folded ? "details" : "section", {
      class: `iw-panel iw-panel-${name}`,
      "aria-label": kind.title,
    });
    if (name !== "controls") {
      const words = [h("h3", {}, kind.title), h("span", { class: "iw-question" }, kind.question)];
      panel.append(h(folded ? "summary" : "header", { class: "iw-head" }, ...words));
    }
    panel.append(body);
    grid.append(panel);
    stage.add(body, kind.make);
  }
  const stopMode = session.onChange(() => {
    showMode(root, session);
    if (!names.includes("controls")) {
      const ended = awayNote(session);
      const bad = session.problem !== null || (ended !== "" && shownMode(session) !== "closed");
      setText(away, session.problem ?? (ended || session.unanswered));
      setAttribute(away, "data-kind", bad ? "bad" : "");
    }
    hideStill(style, session);
  });
  hideStill(style, session);
  showMode(root, session);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Escape") for (const card of root.querySelectorAll<HTMLElement>(".iw-card")) card.hidden = true;
    handleKey(event, session);
  };
  root.addEventListener("keydown", onKey);
  return () => {
    stopMode();
    stage.destroy();
    root.remove();
    style.remove();
  };
}

/** A saved notebook's picture of this engine is not needed where a view of it is alive (workbench/widgets/still.py). */
function hideStill(style: HTMLElement, session: Session): void {
  if (session.connection !== "live" || style.childNodes.length > 1) return;
  style.append(hidesStill(session.engineId));
}

function hidesStill(engineId: string): string {
  return `.iw-still[data-engine="${CSS.escape(engineId)}"] { display: none; }`;
}

/** Show two runs side by side; everything that is shown is in the data. `id`: of the picture of it, if there is one. */
export function mountComparison(data: ComparisonData, element: HTMLElement, height = 0, id = ""): () => void {
  const root = h("div", { class: "iw", "data-view": "compare", "data-testid": "workbench-compare" });
  const style = h("style", {}, styles, id === "" ? "" : hidesStill(id));
  if (height > 0) root.style.setProperty("--iw-height", `${height}px`);
  const body = h("div", { class: "iw-body" });
  root.append(h("section", { class: "iw-panel iw-panel-compare", "aria-label": "Compare" }, body));
  element.append(style, root);
  let theme: Theme | null = null;
  let panel: ComparePanel | null = null;
  const following = followTheme(root, (now) => {
    theme = now;
    panel?.draw(data);
  });
  panel = new ComparePanel(body, () => theme!, null);
  panel.draw(data);
  // A widget is made before it is put into its page, where its colours are known.
  const frame = requestAnimationFrame(() => following.again());
  return () => {
    cancelAnimationFrame(frame);
    following.stop();
    root.remove();
    style.remove();
  };
}

function showMode(root: HTMLElement, session: Session): void {
  const mode = shownMode(session);
  if (root.dataset["mode"] !== mode) root.dataset["mode"] = mode;
}

/** Keys work while the focus is inside the workbench and not in a field, so that the notebook's keys stay its own. */
function handleKey(event: KeyboardEvent, session: Session): void {
  if (isTextInput(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const fail = (): void => undefined;
  switch (event.key) {
    case " ":
      // On a button, space presses that button.
      if (event.target instanceof HTMLButtonElement) return;
      if (!session.commandable) session.playback.toggle();
      else toggleRunning(session, (name, args) => void session.command(name, args).catch(fail));
      break;
    case ".":
      stepForward(session);
      break;
    case ",":
      session.moveCursor(-1);
      break;
    case "p":
      session.playback.toggle();
      break;
    case "[":
      session.jump(-1);
      break;
    case "]":
      session.jump(1);
      break;
    case "Escape":
      if (session.selection.request !== null || session.selection.block !== null) session.select({});
      else session.setCursor("live");
      break;
    default:
      return;
  }
  event.preventDefault();
  event.stopPropagation();
}

/** In the past: one step nearer to now. At the newest step: let the engine make another. */
function stepForward(session: Session): void {
  if (session.cursor !== "live") session.moveCursor(1);
  else if (session.commandable) void session.command("step", { n: 1 }).catch(() => undefined);
}

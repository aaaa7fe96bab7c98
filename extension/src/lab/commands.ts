// Every command of the extension, with its name in the palette.

import type { ILabShell, JupyterFrontEnd } from "@jupyterlab/application";
import { InputDialog, showErrorMessage, type WidgetTracker } from "@jupyterlab/apputils";
import type { Widget } from "@lumino/widgets";

import { sessionOf } from "../registry.ts";
import { VIEW_NAMES } from "../views/index.ts";
import { arrange } from "./arrange.ts";
import type { EngineRef, Hub } from "./hub.ts";
import { arrangeIcon, tutorialIcon, viewIcon, workbenchIcon } from "./icons.ts";
import type { EngineSummary } from "./lab_protocol.ts";
import { keystroke } from "./keystroke.ts";
import { layoutOf, viewsOf } from "./layouts.ts";
import { type PanelArgs, ViewPanel } from "./panel.ts";
import { newPlayground } from "./playground_notebook.ts";
import type { Settings } from "./settings.ts";
import type { SidebarActions } from "./sidebar.ts";
import { loadTutorials, placeTutorial, titleOf } from "./tutorials.ts";
import { commandable, viewTitle } from "./words.ts";

const PREFIX = "inference-workbench";

export const COMMANDS = {
  open: `${PREFIX}:open`,
  arrange: `${PREFIX}:arrange`,
  toggle: `${PREFIX}:toggle`,
  step: `${PREFIX}:step`,
  stepBack: `${PREFIX}:step-back`,
  nextEvent: `${PREFIX}:next-event`,
  showSidebar: `${PREFIX}:show-sidebar`,
  newPlayground: `${PREFIX}:new-playground`,
  openTutorial: `${PREFIX}:open-tutorial`,
} as const;

/** The arguments with which each command stands in the palette. */
export function paletteItems(): { command: string; args: Record<string, string> }[] {
  const views = ["dashboard", ...VIEW_NAMES].map((view) => ({ command: COMMANDS.open, args: { view } }));
  const others = Object.values(COMMANDS).filter((command) => command !== COMMANDS.open);
  return [...others.map((command) => ({ command, args: {} })), ...views];
}

export interface Shell {
  readonly app: JupyterFrontEnd;
  /** Null where there are no panels, as in Notebook 7. */
  readonly labShell: ILabShell | null;
  readonly hub: Hub;
  readonly tracker: WidgetTracker<ViewPanel>;
  readonly settings: () => Settings;
  readonly sidebarId: string;
}

export function addCommands(shell: Shell): SidebarActions {
  const { app, labShell, hub, tracker } = shell;
  const { commands } = app;

  /** The notebook's widget: a launcher makes room for what a card's command returns. */
  const openNotebook = (path: string): Promise<unknown> =>
    commands.execute("docmanager:open", { path }).catch(report("The notebook could not be opened"));

  const makePanel = (args: PanelArgs): ViewPanel => {
    return new ViewPanel(hub, args, { openNotebook, rebound: (changed) => void tracker.save(changed) });
  };

  /** The panel of a view of an engine: the one that is open, or a new one, not yet in the main area. */
  const panelOf = (view: string, path: string, engine: EngineSummary): ViewPanel => {
    const open = tracker.find((panel) => panel.args.view === view && panel.args.engineId === engine.engine_id);
    if (open !== undefined) return open;
    const id = `${PREFIX}-${view}-${Math.random().toString(36).slice(2, 10)}`;
    return makePanel({ id, view, path, engineId: engine.engine_id, ordinal: engine.ordinal });
  };

  const put = (panel: ViewPanel, options: { mode?: "split-right" | "tab-after"; ref?: string } = {}): void => {
    if (panel.isAttached) return;
    app.shell.add(panel, "main", { activate: false, ...options });
    void tracker.add(panel);
  };

  const openView = (view: string, path: string, engine: EngineSummary): void => {
    const panel = panelOf(view, path, engine);
    const beside = largestOf(tracker, panel);
    const notebook = widgetAt(app, path);
    if (beside !== undefined) put(panel, { mode: "tab-after", ref: beside.id });
    else if (notebook !== null) put(panel, { mode: "split-right", ref: notebook.id });
    else put(panel);
    app.shell.activateById(panel.id);
  };

  const arrangeViews = (path: string, engine: EngineSummary): void => {
    if (labShell === null) return;
    if (labShell.mode !== "multiple-document") labShell.mode = "multiple-document";
    const notebook = widgetAt(app, path);
    labShell.collapseLeft();
    const area = notebook?.parent?.node ?? document.body;
    const layout = layoutOf(shell.settings().defaultLayout, area.clientHeight);
    const panels = new Map(viewsOf(layout.views).map((view) => [view, panelOf(view, path, engine)]));
    for (const panel of panels.values()) put(panel);
    hub.use(engine.engine_id);
    if (arrange(layout, panels, notebook) && notebook !== null) labShell.activateById(notebook.id);
  };

  /** The engine that a command without a name acts on. */
  const target = (): EngineRef | null => hub.active;
  const canCommand = (): boolean => {
    const found = target();
    return found !== null && commandable(found.engine);
  };
  const pathOf = ({ link }: EngineRef): string => hub.places.find((place) => place.link === link)?.path ?? "";

  const toggleEngine = (found: EngineRef): Promise<unknown> => {
    hub.use(found.engine.engine_id);
    const paused = found.engine.state === "paused";
    if (paused) sessionOf(found.engine.engine_id)?.setCursor("live");
    return found.link.command(found.engine.engine_id, paused ? "resume" : "pause", {});
  };
  const stepEngine = (found: EngineRef): Promise<unknown> => {
    hub.use(found.engine.engine_id);
    sessionOf(found.engine.engine_id)?.setCursor("live");
    return found.link.command(found.engine.engine_id, "step", { n: 1 });
  };
  const refOf = (engine: EngineSummary): EngineRef => {
    const found = hub.engines.find((ref) => ref.engine.engine_id === engine.engine_id);
    if (found === undefined) throw new Error("This engine is gone.");
    return found;
  };

  commands.addCommand(COMMANDS.open, {
    label: (args) => (typeof args["view"] === "string" ? `Open ${viewTitle(args["view"])}` : "Open a view"),
    caption: "A view of the active engine in a panel",
    icon: (args) => (typeof args["view"] === "string" ? viewIcon(args["view"]) : workbenchIcon),
    // A panel that is put back by the layout restorer carries its id, and needs no engine to be there yet.
    isEnabled: (args) => labShell !== null && (args["id"] !== undefined || target() !== null),
    execute: (args) => {
      const view = String(args["view"]);
      if (args["id"] !== undefined) return put(makePanel(args as unknown as PanelArgs));
      const found = target();
      if (found !== null) openView(view, pathOf(found), found.engine);
    },
  });
  commands.addCommand(COMMANDS.arrange, {
    label: "Arrange workbench",
    caption: "All views of the active engine beside its notebook",
    icon: arrangeIcon,
    isEnabled: () => labShell !== null && target() !== null,
    execute: () => {
      const found = target();
      if (found !== null) arrangeViews(pathOf(found), found.engine);
    },
  });
  commands.addCommand(COMMANDS.toggle, {
    label: () => (target()?.engine.state === "paused" ? "Resume the engine" : "Pause the engine"),
    isEnabled: canCommand,
    execute: () => {
      const found = target();
      if (found !== null) toggleEngine(found).catch(report("The engine did not answer"));
    },
  });
  commands.addCommand(COMMANDS.step, {
    label: "Step the engine",
    caption: "Run one step and pause",
    isEnabled: canCommand,
    execute: () => {
      const found = target();
      if (found !== null) stepEngine(found).catch(report("The engine did not answer"));
    },
  });
  const shownSession = (): ReturnType<typeof sessionOf> => {
    const found = target();
    return found === null ? undefined : sessionOf(found.engine.engine_id);
  };
  commands.addCommand(COMMANDS.stepBack, {
    label: "Step back in time",
    caption: "All views of the active engine show the step before",
    isEnabled: () => shownSession() !== undefined,
    execute: () => shownSession()?.moveCursor(-1),
  });
  commands.addCommand(COMMANDS.nextEvent, {
    label: "Go to the next event",
    caption: "The next arrival, admission, preemption, eviction or end, in all views of the active engine",
    isEnabled: () => shownSession() !== undefined,
    execute: () => {
      const session = shownSession();
      if (session === undefined) return;
      const from = session.cursor === "live" ? -1 : session.cursor;
      const event = session.store.nextEvent(from, 1);
      if (event !== null) session.setCursor(event.step);
    },
  });
  commands.addCommand(COMMANDS.showSidebar, {
    label: "Show the engines",
    icon: workbenchIcon,
    execute: () => app.shell.activateById(shell.sidebarId),
  });
  commands.addCommand(COMMANDS.newPlayground, {
    label: (args) => (args["isLauncher"] === true ? "Playground" : "New playground notebook"),
    caption: "A notebook with the cells that bring an engine to life",
    icon: workbenchIcon,
    execute: async (args) => {
      const folder = typeof args["cwd"] === "string" ? args["cwd"] : "";
      const { kernelspecs, contents } = app.serviceManager;
      await kernelspecs.ready;
      const specs = kernelspecs.specs;
      try {
        return await openNotebook(await newPlayground(contents, folder, specs?.kernelspecs[specs.default] ?? null));
      } catch (error) {
        return report("The notebook could not be made")(error);
      }
    },
  });
  commands.addCommand(COMMANDS.openTutorial, {
    label: (args) => (args["isLauncher"] === true ? "Tutorials" : "Open a tutorial"),
    caption: "The workbench's tutorials, each a notebook",
    icon: tutorialIcon,
    execute: async () => {
      try {
        const tutorials = await loadTutorials();
        const titles = tutorials.map(titleOf);
        const { value } = await InputDialog.getItem({ title: "Open a tutorial", items: titles, okLabel: "Open" });
        const chosen = value === null ? undefined : tutorials[titles.indexOf(value)];
        if (chosen === undefined) return undefined;
        return await openNotebook(await placeTutorial(app.serviceManager.contents, chosen));
      } catch (error) {
        return report("The tutorials could not be opened")(error);
      }
    },
  });

  const refresh = (): void => {
    for (const command of Object.values(COMMANDS)) commands.notifyCommandChanged(command);
  };
  let known = "";
  hub.onChange(() => {
    const found = target();
    const now = found === null ? "" : `${found.engine.engine_id} ${found.engine.state}`;
    if (now !== known) refresh();
    known = now;
  });

  return {
    openView,
    arrange: arrangeViews,
    toggle: (engine) => toggleEngine(refOf(engine)),
    step: (engine) => stepEngine(refOf(engine)),
    openNotebook,
    newPlayground: () => void commands.execute(COMMANDS.newPlayground),
    openTutorials: () => void commands.execute(COMMANDS.openTutorial),
  };
}

/**
 * The views keep single keys from JupyterLab, where they would act on the notebook. Those with Ctrl, Alt or Cmd, and the
 * extension's own shortcuts as the reader has set them, are pressed once more outside of the view.
 */
export function passKeysOn(app: JupyterFrontEnd): void {
  document.addEventListener("keydown", (event) => {
    if (!event.isTrusted || event.defaultPrevented || !(event.target instanceof Element)) return;
    const view = event.target.closest(".iw, .iw-lab-panel, .iw-lab-side");
    const pressed = keystroke(event);
    const ours = app.commands.keyBindings.some(
      ({ command, keys }) => command.startsWith(`${PREFIX}:`) && keys[0] === pressed,
    );
    if (view === null || !(ours || event.ctrlKey || event.altKey || event.metaKey)) return;
    // JupyterLab prevents the default of a key that it takes.
    const taken = view.parentElement?.dispatchEvent(new KeyboardEvent(event.type, event)) === false;
    if (taken) event.preventDefault();
  });
}

/** Of the panels in sight, other than `panel`, the one with the most room. */
function largestOf(tracker: WidgetTracker<ViewPanel>, panel: ViewPanel): ViewPanel | undefined {
  const room = ({ node }: Widget): number => node.clientWidth * node.clientHeight;
  return tracker
    .filter((other) => other.isAttached && other.isVisible && other !== panel)
    .sort((a, b) => room(b) - room(a))[0];
}

/** The notebook or console at a path, if it is open in the main area. */
function widgetAt(app: JupyterFrontEnd, path: string): Widget | null {
  for (const widget of app.shell.widgets("main")) {
    const { sessionContext } = widget as { sessionContext?: { path?: string } };
    if (sessionContext?.path === path) return widget;
  }
  return null;
}

function report(what: string): (error: unknown) => void {
  return (error) => void showErrorMessage(what, error instanceof Error ? error.message : String(error));
}

// The JupyterLab extension: a shell of panels, a sidebar and commands around the same views that a cell shows.

import { ILabShell, ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, type ISessionContext, WidgetTracker } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar } from "@jupyterlab/statusbar";

import { addCommands, COMMANDS, passKeysOn, paletteItems } from "./commands.ts";
import { Hub } from "./hub.ts";
import type { KernelMemory } from "./kernel_link.ts";
import styles from "./lab.css";
import type { ViewPanel } from "./panel.ts";
import { DEFAULTS, followSettings, type Settings } from "./settings.ts";
import { Sidebar } from "./sidebar.ts";
import { StatusItem } from "./status_item.ts";
import { Stills } from "./stills.ts";

const PLUGIN = "inference-workbench:plugin";
const CATEGORY = "Inference workbench";
const SIDEBAR = "inference-workbench-sidebar";

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: "Live views of the inference engines of every kernel",
  autoStart: true,
  optional: [ILabShell, ILayoutRestorer, ICommandPalette, ILauncher, IStatusBar, ISettingRegistry],
  activate,
};

export default plugin;

function activate(
  app: JupyterFrontEnd,
  labShell: ILabShell | null,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  statusBar: IStatusBar | null,
  settingRegistry: ISettingRegistry | null,
): void {
  const style = document.createElement("style");
  style.textContent = styles;
  document.head.append(style);

  const hub = new Hub(rememberedKernels());
  let settings = (): Settings => DEFAULTS;
  const tracker = new WidgetTracker<ViewPanel>({ namespace: "inference-workbench" });
  const actions = addCommands({ app, labShell, hub, tracker, settings: () => settings(), sidebarId: SIDEBAR });

  const sidebar = new Sidebar(hub, actions);
  passKeysOn(app);
  app.shell.add(sidebar, "left", { rank: 450 });
  restorer?.add(sidebar, SIDEBAR);

  let status: StatusItem | null = null;
  if (statusBar !== null) {
    const item = new StatusItem(hub, () => void app.commands.execute(COMMANDS.showSidebar));
    statusBar.registerStatusItem("inference-workbench:status", {
      item,
      align: "left",
      rank: 10,
      isActive: () => item.active,
      activeStateChanged: item.activeStateChanged,
    });
    status = item;
  }
  settings = followSettings(settingRegistry, PLUGIN, hub, status).current;

  void restorer?.restore(tracker, {
    command: COMMANDS.open,
    args: (panel) => ({ ...panel.args }),
    name: (panel) => panel.id,
  });
  for (const item of paletteItems()) palette?.addItem({ ...item, category: CATEGORY });
  [COMMANDS.newPlayground, COMMANDS.openTutorial].forEach((command, rank) =>
    launcher?.add({ command, category: CATEGORY, rank, args: { isLauncher: true } }),
  );

  const stills = new Stills(() => hub.places);
  hub.onChange(() => stills.catchUp());
  followNotebooks(app, labShell, hub, stills);
  document.addEventListener("visibilitychange", () => hub.applyWatch());
  // Without a goodbye the kernel would keep this page's comm and its thread.
  window.addEventListener("pagehide", () => hub.dispose());
}

/** Every notebook and console has a session; a kernel's comms only work over that one's own connection. */
function followNotebooks(app: JupyterFrontEnd, labShell: ILabShell | null, hub: Hub, stills: Stills): void {
  const contextOf = (widget: unknown): ISessionContext | undefined =>
    (widget as { sessionContext?: ISessionContext } | null)?.sessionContext;
  const look = (): void => {
    for (const widget of app.shell.widgets("main")) {
      const context = contextOf(widget);
      if (context === undefined) continue;
      hub.follow(context);
      stills.follow(widget);
    }
  };
  const turned = (): void => {
    look();
    const context = contextOf(app.shell.currentWidget);
    if (context !== undefined) hub.turnTo(context);
  };
  labShell?.layoutModified.connect(look);
  app.shell.currentChanged?.connect(turned);
  void app.restored.then(look);
}

/**
 * The kernels that this tab was connected to, those with subshells marked: after a reload they can be asked at once,
 * even while a cell is running.
 */
function rememberedKernels(): KernelMemory {
  const key = "inference-workbench:kernels";
  const known = new Map<string, boolean>();
  for (const [, id, mark] of (sessionStorage.getItem(key) ?? "").matchAll(/([^ +]+)(\+?)/g))
    known.set(id!, mark === "+");
  return {
    has: (id) => known.has(id),
    hasSubshells: (id) => known.get(id) === true,
    add: (id, subshells) => {
      known.set(id, subshells);
      const words = [...known].slice(-20).map(([name, marked]) => (marked ? `${name}+` : name));
      sessionStorage.setItem(key, words.join(" "));
    },
  };
}

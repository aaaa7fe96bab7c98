// The extension's icons, drawn for a 16 × 16 grid in the colour that JupyterLab gives its icons.

import { LabIcon } from "@jupyterlab/ui-components";

function icon(name: string, shapes: string): LabIcon {
  const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16"><g class="jp-icon3" fill="#616161">${shapes}</g></svg>`;
  return new LabIcon({ name: `inference-workbench:${name}`, svgstr });
}

const bar = (x: number, y: number, width: number, height: number, opacity = 1): string =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="0.8"${opacity === 1 ? "" : ` fill-opacity="${opacity}"`}/>`;

/** Blocks of a cache, some taken. */
const cells = (filled: readonly number[]): string =>
  Array.from({ length: 9 }, (_, i) => {
    const [x, y] = [1.5 + (i % 3) * 4.7, 1.5 + Math.floor(i / 3) * 4.7];
    return bar(x, y, 3.7, 3.7, filled.includes(i) ? 1 : 0.35);
  }).join("");

export const workbenchIcon = icon(
  "workbench",
  `${bar(1.5, 2, 8, 3.2)}${bar(10.5, 2, 4, 3.2, 0.45)}${bar(1.5, 6.4, 4.5, 3.2, 0.45)}${bar(7, 6.4, 7.5, 3.2)}${bar(1.5, 10.8, 10, 3.2)}${bar(12.5, 10.8, 2, 3.2, 0.45)}`,
);

export const tutorialIcon = icon(
  "tutorial",
  `<path d="M8 3.6C6.4 2.5 4.2 2 1.5 2v10.4c2.7 0 4.9.5 6.5 1.6 1.6-1.1 3.8-1.6 6.5-1.6V2C11.8 2 9.6 2.5 8 3.6zm-.7 8.4c-1.2-.5-2.6-.8-4.3-.9V3.5c1.8.1 3.2.5 4.3 1.2zm5.7-.9c-1.7.1-3.1.4-4.3.9V4.7c1.1-.7 2.5-1.1 4.3-1.2z"/>`,
);

export const arrangeIcon = icon(
  "arrange",
  `${bar(1.5, 2, 4.6, 12)}${bar(7.2, 2, 7.3, 2.4, 0.45)}${bar(7.2, 5.6, 3.1, 4, 0.7)}${bar(11.4, 5.6, 3.1, 4, 0.7)}${bar(7.2, 10.8, 7.3, 3.2)}`,
);

const viewIcons: Record<string, LabIcon> = {
  dashboard: icon(
    "dashboard",
    `${bar(1.5, 2, 13, 2.6)}${bar(1.5, 5.8, 6, 8.2, 0.45)}${bar(8.6, 5.8, 5.9, 3.6)}${bar(8.6, 10.6, 5.9, 3.4, 0.7)}`,
  ),
  controls: icon(
    "controls",
    `<rect x="2.5" y="3" width="2.6" height="10" rx="0.8"/><rect x="6.3" y="3" width="2.6" height="10" rx="0.8"/><path d="M10.6 3.6v8.8c0 .5.5.8.9.5l3-4.4a.9.9 0 0 0 0-1l-3-4.4c-.4-.3-.9 0-.9.5z"/>`,
  ),
  knobs: icon(
    "knobs",
    `${bar(1.5, 3, 13, 1.2, 0.45)}${bar(1.5, 7.4, 13, 1.2, 0.45)}${bar(1.5, 11.8, 13, 1.2, 0.45)}<circle cx="10.5" cy="3.6" r="1.9"/><circle cx="5" cy="8" r="1.9"/><circle cx="8.5" cy="12.4" r="1.9"/>`,
  ),
  playground: icon(
    "playground",
    `<path d="M3 2h10a1.5 1.5 0 0 1 1.5 1.5v6.2a1.5 1.5 0 0 1-1.5 1.5H7.6L4.4 14v-2.8H3a1.5 1.5 0 0 1-1.5-1.5V3.5A1.5 1.5 0 0 1 3 2zm1 2.6v1.2h8V4.6zm0 2.8v1.2h5V7.4z" fill-rule="evenodd"/>`,
  ),
  blocks: icon("blocks", cells([0, 1, 4, 5, 6])),
  timeline: icon(
    "timeline",
    `${bar(1.5, 2.5, 6, 2.4)}${bar(4.5, 6.2, 8, 2.4, 0.7)}${bar(8.5, 9.9, 6, 2.4)}<rect x="1.5" y="13.4" width="13" height="1" fill-opacity="0.45"/>`,
  ),
  requests: icon(
    "requests",
    `<circle cx="3" cy="4" r="1.4"/><circle cx="3" cy="8" r="1.4" fill-opacity="0.7"/><circle cx="3" cy="12" r="1.4" fill-opacity="0.45"/>${bar(6, 3.2, 8.5, 1.6)}${bar(6, 7.2, 6.5, 1.6)}${bar(6, 11.2, 7.5, 1.6)}`,
  ),
  memory: icon(
    "memory",
    `<path d="M2.2 3h11.6c.4 0 .7.3.7.7v8.6c0 .4-.3.7-.7.7H2.2a.7.7 0 0 1-.7-.7V3.7c0-.4.3-.7.7-.7zm.7 1.4v7.2h3.9V4.4z" fill-rule="evenodd"/>`,
  ),
  latency: icon(
    "latency",
    `${bar(1.5, 10, 2.2, 4, 0.45)}${bar(4.4, 5.5, 2.2, 8.5)}${bar(7.3, 2, 2.2, 12)}${bar(10.2, 7, 2.2, 7, 0.7)}${bar(13.1, 11.5, 1.6, 2.5, 0.45)}`,
  ),
  // A roofline: a slope, then a ceiling, and a kernel under it.
  kernels: icon(
    "kernels",
    `<path d="M1.5 2v12h13v-1.2H2.7V2z" fill-opacity="0.45"/><path d="M3.6 11.2 8.2 5h6.3V3.4H7.4L2.9 9.8z"/><circle cx="10.6" cy="8.6" r="1.6"/>`,
  ),
  // Arrivals on their way in.
  traffic: icon(
    "traffic",
    `${bar(1.5, 3, 1.6, 10, 0.45)}${bar(4.2, 5, 1.6, 6, 0.7)}${bar(6.4, 2, 1.6, 12)}<path d="M9.4 4.6v2.3H8.9v2.2h.5v2.3c0 .5.5.7.9.4l4-3.4a.6.6 0 0 0 0-.9l-4-3.4c-.4-.3-.9 0-.9.5z"/>`,
  ),
  // One run, and another way that it could have gone.
  what_if: icon(
    "what_if",
    `<path d="M1.5 7.2h3.2c1.6 0 2.3-.7 3.2-1.9C9 3.8 10 2.8 12 2.8h.4V1.3l2.3 2.2-2.3 2.2V4.3H12c-1.3 0-2 .7-2.9 1.9-1.1 1.5-2.2 2.5-4.4 2.5H1.5z"/><path d="M7 8.6c.4.4.7.8 1.1 1.3.9 1.2 1.6 1.9 2.9 1.9h1.4v-1.4l2.3 2.2-2.3 2.2v-1.5H11c-2 0-3-1-4.1-2.5-.3-.4-.6-.8-1-1.1z" fill-opacity="0.6"/>`,
  ),
};

/** The icon of a view, or the workbench's own for one that has none. */
export function viewIcon(view: string): LabIcon {
  return viewIcons[view] ?? workbenchIcon;
}

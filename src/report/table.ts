import Table from "cli-table3";

/** A column of a plain table: its heading, and whether it holds numbers, which stand to the right. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** Columns under their headings, without lines between them. */
export function plainTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const none = { "top-left": "", "top-mid": "", "top-right": "", top: "", bottom: "", "bottom-left": "" };
  const table = new Table({
    head: columns.map(({ title }) => title),
    colAligns: columns.map(({ align = "right" }) => align),
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    chars: {
      ...none,
      "bottom-mid": "",
      "bottom-right": "",
      mid: "",
      "left-mid": "",
      "mid-mid": "",
      "right-mid": "",
      left: "",
      right: "",
      middle: "  ",
    },
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

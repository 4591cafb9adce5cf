// The nursery, as a tree that changes while it is watched.
//
// Every snapshot is the whole tree. Its nodes are matched with those that are drawn by their numbers, so that
// an element lives as long as its task: what has the focus, is folded or shows its frames stays so.
// A task that comes is lit for a moment, one that goes fades; several in one only change their count. Keys are those of the ARIA tree pattern
// (https://www.w3.org/WAI/ARIA/apg/patterns/treeview/).
//
// What is drawn is bounded, however large the tree is.

import { countTasks, isTask, under } from "./snapshot.js";
import { duration, element, number, say } from "./words.js";

const SIBLINGS_DRAWN = 100; // of one nursery
const ROWS_DRAWN = 500; // in all: what a laptop lays out in well under half a second
const LEVELS_DRAWN = 40;
const FRAMES_DRAWN = 50; // the innermost
const FADE = 700; // ms; the style sheet's animation is as long

/** `file.py:12 function` of a frame. */
const place = (frame) => `${frame.file.split("/").pop()}:${frame.line} ${frame.function}`;

// When is a node that comes the one that was drawn? Several equal tasks have the number of the first of them;
// when that one ends, or does something else, they are still the same several. The earlier rules go first.
const several = (node) => node.count > 1;
const SAME = [
  (old, node) => old.number === node.number && several(old) === several(node),
  (old, node) => several(old) && several(node) && old.name === node.name,
  (old, node) => old.number === node.number,
  (old, node) => several(old) && old.name === node.name,
];

/** The tree in a `<ul role="tree">`. */
export class Tree {
  /**
   * @param list    the element.
   * @param cancel  called with the node of a task that is to be cancelled.
   */
  constructor(list, cancel) {
    this.list = list;
    this.cancel = cancel;
    this.control = false;
    this.top = new Group(this, list, 1);
    this.fresh = true;
    list.addEventListener("keydown", (event) => this.pressed(event));
    list.addEventListener("focusin", (event) => this.focused(event.target.closest("[role=treeitem]")));
  }

  /**
   * Draw a snapshot.
   * @param root     the root task.
   * @param control  whether tasks may be cancelled.
   */
  update(root, control) {
    this.control = control;
    this.rows = 0;
    this.top.update([root]);
    this.fresh = false;
    if (!this.current?.isConnected) this.focused(this.list.querySelector("[role=treeitem]"));
  }

  /** Give the one place in the tab order to an item. */
  focused(item) {
    if (!item || item === this.current) return;
    this.current?.tree.reachable(false);
    item.tree.reachable(true);
    this.current = item;
  }

  shown() {
    return [...this.list.querySelectorAll("[role=treeitem]")].filter(
      (item) => !item.closest(".gone") && !item.parentElement.closest('[aria-expanded="false"]'),
    );
  }

  pressed(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.target !== item || event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = this.shown();
    const at = shown.indexOf(item);
    const parent = item.parentElement.closest("[role=treeitem]");
    const open = item.getAttribute("aria-expanded");
    const go = {
      ArrowDown: () => shown[at + 1]?.focus(),
      ArrowUp: () => shown[at - 1]?.focus(),
      Home: () => shown[0].focus(),
      End: () => shown.at(-1).focus(),
      ArrowRight: () => (open === "false" ? item.tree.fold(false) : open && shown[at + 1]?.focus()),
      ArrowLeft: () => (open === "true" ? item.tree.fold(true) : parent?.focus()),
      Enter: () => item.tree.toggleFrames(),
      Delete: () => item.tree.cancel(),
    }[event.key];
    if (!go) return;
    event.preventDefault();
    go();
  }
}

/** What is drawn of the nodes of one parent. */
class Group {
  constructor(tree, list, level) {
    this.tree = tree;
    this.list = list;
    this.level = level;
    this.items = new Map();
    this.more = null;
  }

  update(nodes) {
    const space = this.level > LEVELS_DRAWN ? 0 : Math.min(SIBLINGS_DRAWN, ROWS_DRAWN - this.tree.rows);
    const drawn = nodes.slice(0, space);
    this.tree.rows += drawn.length;
    const items = this.match(drawn);
    let before = this.list.firstElementChild;
    for (const node of drawn) {
      const item = items.get(node.number) ?? new Item(this.tree, this.level, node);
      items.set(node.number, item);
      while (before?.classList.contains("gone")) before = before.nextElementSibling;
      if (item.element === before) before = before.nextElementSibling;
      else this.list.insertBefore(item.element, before);
      item.update(node);
    }
    this.items = items;
    this.tell(nodes.slice(space));
  }

  /** Find the items of nodes that are drawn already, and let the others leave. */
  match(nodes) {
    const items = new Map();
    const left = new Set(this.items.values());
    for (const same of SAME) {
      for (const node of nodes) {
        const item = items.has(node.number) ? null : [...left].find((each) => same(each.node, node));
        if (!item) continue;
        items.set(node.number, item);
        left.delete(item);
      }
    }
    for (const item of left) item.leave();
    return items;
  }

  /** Say how many are not drawn. */
  tell(left) {
    this.more?.remove();
    this.more = null;
    if (!left.length) return;
    const count = left.reduce((sum, node) => sum + countTasks(node), 0);
    this.more = element("li", "more", `… and ${number(count)} more`);
    this.more.setAttribute("role", "none");
    this.list.append(this.more);
  }
}

/** One task or one nursery. */
class Item {
  constructor(tree, level, node) {
    const task = isTask(node);
    this.tree = tree;
    this.level = level;
    this.node = null;
    this.open = true;
    this.name = element("span", "name");
    this.count = element("span", "count");
    this.notes = element("span", "notes");
    const mark = task ? element("span", "mark") : element("span", "kind", "nursery");
    this.row = element("div", "row", element("span", "twist"), mark, this.name, this.count, this.notes);
    this.element = element("li", task ? "task" : "nursery", this.row);
    if (!tree.fresh && !several(node)) this.element.classList.add("came");
    this.element.tree = this;
    this.element.tabIndex = -1;
    this.element.setAttribute("role", "treeitem");
    this.element.setAttribute("aria-level", level);
    this.row.addEventListener("click", (event) => this.clicked(event.target));
  }

  update(node) {
    this.node = node;
    const times = node.count > 1 ? `× ${number(node.count)}` : "";
    say(this.name, node.name === "nursery" ? "" : node.name);
    say(this.count, times);
    const flags = [node.starting && "starting", node.cancel_called && "cancel called", node.shielded && "shielded"].filter(Boolean);
    const deadline = typeof node.deadline === "number" ? `deadline in ${duration(node.deadline)}` : "";
    say(this.notes, [...flags, deadline].filter(Boolean).join(" · "));
    this.element.classList.toggle("cancelled", Boolean(node.cancel_called));
    const label = [isTask(node) ? "task" : "nursery", node.name, times, ...flags].filter(Boolean).join(" ");
    if (this.element.getAttribute("aria-label") !== label) this.element.setAttribute("aria-label", label);
    this.offerCancel();
    this.drawFrames();
    this.drawChildren();
  }

  offerCancel() {
    if (!this.tree.control || !isTask(this.node) || !this.node.cancellable) {
      this.button?.remove();
      this.button = null;
      return;
    }
    if (!this.button) {
      this.button = element("button", "cancel");
      this.button.type = "button";
      this.button.addEventListener("click", () => this.cancel());
      this.row.append(this.button);
      this.reachable(this.tree.current === this.element);
    }
    say(this.button, several(this.node) ? "cancel one" : "cancel");
  }

  drawChildren() {
    const children = under(this.node);
    if (!children.length) {
      this.element.removeAttribute("aria-expanded");
      this.group?.update([]);
      return;
    }
    this.element.setAttribute("aria-expanded", String(this.open));
    if (!this.group) {
      const list = element("ul");
      list.setAttribute("role", "group");
      this.element.append(list);
      this.group = new Group(this.tree, list, this.level + 1);
    }
    this.group.update(this.open ? children : []);
  }

  /** Hide what is under it, or show it again. */
  fold(closed) {
    this.open = !closed;
    const { fresh, rows } = this.tree;
    this.tree.fresh = true; // what was hidden has not just come
    this.tree.rows = 0;
    this.drawChildren();
    Object.assign(this.tree, { fresh, rows });
  }

  /** Show where the task waits, or where the nursery was opened; or hide it. */
  toggleFrames() {
    this.frames?.remove();
    this.frames = this.frames ? null : element("ol", "frames");
    if (this.frames) this.row.after(this.frames);
    this.drawFrames();
  }

  drawFrames() {
    if (!this.frames) return;
    const { frames = [], opened } = this.node;
    const stack = (opened ? [opened] : frames).slice(-FRAMES_DRAWN);
    while (this.frames.childElementCount > (stack.length || 1)) this.frames.lastChild.remove();
    while (this.frames.childElementCount < (stack.length || 1)) this.frames.append(element("li"));
    stack.forEach((frame, at) => {
      say(this.frames.children[at], place(frame));
      this.frames.children[at].className = /^trio\b/.test(frame.module) ? "" : "ours";
    });
    if (!stack.length) say(this.frames.firstChild, "not known");
  }

  clicked(target) {
    if (target === this.button) return;
    this.element.focus();
    if (target.className === "twist") this.fold(this.open);
    else this.toggleFrames();
  }

  cancel() {
    if (this.button) this.tree.cancel(this.node);
  }

  reachable(yes) {
    this.element.tabIndex = yes ? 0 : -1;
    if (this.button) this.button.tabIndex = yes ? 0 : -1;
  }

  /** Fade, then be gone; a focus goes to the parent. */
  leave() {
    if (this.element.contains(document.activeElement)) {
      (this.element.parentElement.closest("[role=treeitem]") ?? this.tree.list.querySelector("[role=treeitem]"))?.focus();
    }
    if (several(this.node)) {
      this.element.remove();
      return;
    }
    this.element.classList.add("gone");
    this.element.setAttribute("aria-hidden", "true");
    setTimeout(() => this.element.remove(), FADE);
  }
}

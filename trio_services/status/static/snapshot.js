// A task tree as it comes, three flat tables (see task_tree_json.py), made a tree again.

// The nursery whose tasks the server lets a page cancel: connections (app.py). Others are services, and to end
// one is to end the program.
const CANCELLABLE_IN = "in_flight";

/** Return the root task: tasks have `nurseries` and `frames`, nurseries have `tasks` and `opened`. */
export function treeOf({ tasks, nurseries, frames }) {
  const grown = nurseries.map((row) => ({ ...row, tasks: [], opened: frames[row.opened] }));
  const nodes = tasks.map((row) => ({
    ...row,
    nurseries: [],
    frames: row.frames.map((index) => frames[index]),
    cancellable: nurseries[row.nursery]?.name === CANCELLABLE_IN,
  }));
  nurseries.forEach((row, at) => nodes[row.task].nurseries.push(grown[at]));
  tasks.forEach((row, at) => grown[row.nursery]?.tasks.push(nodes[at]));
  return nodes[0];
}

/** The nodes under a node: a task has nurseries, a nursery has tasks. */
export const under = (node) => node.nurseries ?? node.tasks;

export const isTask = (node) => node.nurseries !== undefined;

/** How many tasks there are from a node on; folded ones count as often as they stand for. */
export function countTasks(root) {
  let tasks = 0;
  const todo = [[root, 1]];
  while (todo.length) {
    const [node, times] = todo.pop();
    const count = times * (node.count ?? 1);
    if (isTask(node)) tasks += count;
    for (const child of under(node)) todo.push([child, count]);
  }
  return tasks;
}

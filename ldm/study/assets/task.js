// Where the page is a task of Mechanical Turk: its form carries the answers, which `view` writes into it.

const query = new URLSearchParams(location.search);
const assignment = query.get("assignmentId") ?? "";
const form = find("task");
form.elements.assignmentId.value = assignment;
if (query.get("turkSubmitTo") === "https://workersandbox.mturk.com") form.action = "https://workersandbox.mturk.com/mturk/externalSubmit";

// Who only looks the task over has not accepted it: no pictures before that, and nothing to hand in.
if (assignment === "ASSIGNMENT_ID_NOT_AVAILABLE") {
  find("preview").hidden = false;
  document.querySelector('[data-action="agree"]').hidden = true;
}

// A view that no kernel answers: the style sheet shows this sentence in its place, and the picture that the notebook keeps.

const UNANSWERED = "No answer from the kernel: it is busy, or this notebook was reopened. Run the cell for the live view.";

function unanswered(root, on) {
  if (on === root.hasAttribute("data-unanswered")) return;
  root.toggleAttribute("data-unanswered", on);
  if (!on) {
    root.querySelector(":scope > .wb-unanswered").remove();
    return;
  }
  const said = document.createElement("p");
  said.className = "wb-unanswered";
  said.setAttribute("role", "status");
  root.prepend(said);
  said.textContent = UNANSWERED;
}

/** Send to the kernel; where that has been restarted, `lost` is called with what there is to be said. */
function sendOr(lost, model, content, buffers) {
  try {
    model.send(content, undefined, buffers);
  } catch (error) {
    lost("The kernel was restarted and does not know this view any more. Run the cell again.");
  }
}

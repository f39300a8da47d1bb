"""What all views use: refusals in sentences, descriptions, code, work in a thread, and files of the browser."""

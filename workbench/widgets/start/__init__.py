"""From a picture and words to maps without code: the form, what it asks for, and the panel."""
